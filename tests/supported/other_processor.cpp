// Runs the gate's kernels on cases from a file, for processors that have no PyTorch here: see other_processor.py.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "gate.h"

extern "C" int32_t ean_forward(const ean::ForwardCall *);
extern "C" int32_t ean_backward(const ean::BackwardCall *);

extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t,
                                      void (*function)(int64_t, int64_t, void *), void *context) {
  function(begin, end, context);
  return 0;
}
extern "C" int32_t torch_get_num_threads(uint32_t *threads) { return *threads = 1, 0; }

template <class T>
std::vector<T> take(size_t count) {
  std::vector<T> values(count);
  if (count && std::fread(values.data(), sizeof(T), count, stdin) != count) std::abort();
  return values;
}

template <class T>
void give(const std::vector<T> &values) {
  std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

int main() {
  int64_t n[9];  // type, samples, channels, pixels, channels_last, numbers of a vector, ReLU, training, bytes of a number
  while (std::fread(n, sizeof n, 1, stdin) == 1) {
    const size_t planes = n[1] * n[2], bytes = planes * n[3] * n[8], size = n[5], channels = n[2];
    auto z = take<char>(bytes), residual = take<char>(bytes), grad = take<char>(bytes);
    auto weight = take<float>(size), bias = take<float>(size), alpha = take<float>(size), delta = take<float>(size);
    auto norm_weight = take<float>(channels), norm_bias = take<float>(channels);
    auto mean = take<float>(channels), var = take<float>(channels);
    std::vector<char> y(bytes), dz(bytes), dresidual(bytes);
    // What isn't written shows as NaN.
    std::vector<float> moments(2 * planes, __builtin_nanf("")), dnorm(2 * channels), dweight(size), dbias(size);
    std::vector<float> dalpha(size), ddelta(size);
    ean::Call call{n[0], n[1], n[2], n[3], n[4], weight.data(), bias.data(), alpha.data(), delta.data(), n[5], 0, 1e-5,
                   norm_weight.data(), norm_bias.data(), mean.data(), var.data(), 1e-5, n[7]};
    ean::ForwardCall forward{call, z.data(), residual.data(), n[6], y.data(), moments.data()};
    const float *kept = n[3] > ean::TAKEN_AGAIN ? moments.data() : nullptr;
    ean::BackwardCall backward{call, grad.data(), z.data(), n[6] ? y.data() : nullptr, kept, dz.data(),
                               n[6] ? dresidual.data() : nullptr, dweight.data(), dbias.data(), dalpha.data(),
                               ddelta.data(), dnorm.data()};
    if (ean_forward(&forward) || ean_backward(&backward)) return 1;
    give(y), give(dz), give(dweight), give(dbias), give(dalpha), give(ddelta), give(dnorm);
  }
}
