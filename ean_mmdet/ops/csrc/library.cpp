// The compiled gate's two entry points, for ctypes. Of PyTorch it needs torch_parallel_for of the stable C interface
// (PyTorch 2.10), so a library that was built with one PyTorch serves later ones too.
#include "gate.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                      void (*function)(int64_t, int64_t, void *), void *context);
extern "C" int32_t torch_get_num_threads(uint32_t *threads);

namespace ean {
namespace {

// The best kernels for this processor, or those that PyTorch is told to take, by its own variable.
const Kernels &kernels() {
  static const Kernels &chosen = []() -> const Kernels & {
#if defined(__x86_64__)
    const char *told = std::getenv("ATEN_CPU_CAPABILITY");
    auto allowed = [&](const Kernels &kernels) { return !told || !std::strcmp(told, kernels.name); };
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512 && allowed(kAvx512)) return kAvx512;
    if (avx2 && (allowed(kAvx2) || allowed(kAvx512))) return kAvx2;
#endif
    return kDefault;
  }();
  return chosen;
}

constexpr int64_t GRAIN = 16384;  // elements that are worth a thread
constexpr int64_t MAX_BLOCK = 4;  // vectors of channels of a task in channels_last: 256 bytes with AVX-512

// Vectors of channels that a task takes: as many as leave two tasks for every thread.
int64_t choose_block(const Map &map, int64_t width) {
  uint32_t threads = 1;
  torch_get_num_threads(&threads);
  int64_t block = MAX_BLOCK;
  while (block > 1 && map.samples * map.channels < 2 * int64_t(threads) * block * width) block /= 2;
  return block;
}

template <class Arguments>
int32_t run(const Arguments &arguments, void (*Kernels::*kernel)(const Arguments &, int64_t, int64_t, int64_t)) {
  const Map &map = arguments.map;
  struct Context {
    const Arguments &arguments;
    void (*kernel)(const Arguments &, int64_t, int64_t, int64_t);
    int64_t block;
  } context{arguments, kernels().*kernel, 1};
  int64_t channels = map.channels, samples = map.samples / batch(map, arguments.norm), width = 1;
  if (map.channels_last) {
    context.block = choose_block(map, kernels().width);
    width = context.block * kernels().width;
  }
  int64_t tasks = samples * ((channels + width - 1) / width);
  int64_t grain = std::max<int64_t>(1, GRAIN / (map.pixels * width * batch(map, arguments.norm)));
  auto call = [](int64_t begin, int64_t end, void *pointer) {
    auto *c = static_cast<Context *>(pointer);
    c->kernel(c->arguments, c->block, begin, end);
  };
  return torch_parallel_for(0, tasks, grain, call, &context);
}

// The planes' sums added up, over the samples and over all channels that share a number.
std::vector<double> reduce(const Map &map, const double *sums, int64_t shared) {
  std::vector<double> total(shared);
  for (int64_t i = 0; i < map.samples * map.channels; ++i) total[i % map.channels % shared] += sums[i];
  return total;
}

// EAN's vectors and what fold.py makes of them.
struct Fold {
  const float *weight, *bias, *alpha, *delta;  // (size); weight and bias are null where there is nothing to fold
  int64_t size, norm;                          // norm: 0 l2, 1 rms, 2 l1
  double inverse = 1;                          // 1 / ‖weight‖
  std::vector<float> scale, shift;

  Fold(const float *weight, const float *bias, const float *alpha, const float *delta, int64_t size, int64_t norm,
       double eps)
      : weight(weight), bias(bias), alpha(alpha), delta(delta), size(size), norm(norm), scale(alpha, alpha + size),
        shift(delta, delta + size) {
    if (!weight) return;
    double total = 0;
    for (int64_t i = 0; i < size; ++i)
      total += norm == 2 ? std::abs(double(weight[i])) : double(weight[i]) * weight[i];
    if (norm != 0) total /= size;
    inverse = norm == 2 ? 1 / (total + eps) : 1 / std::sqrt(total + eps);
    for (int64_t i = 0; i < size; ++i) {
      scale[i] = adapted(i) * weight[i];
      shift[i] = adapted(i) * bias[i] + delta[i];
    }
  }

  double adapted(int64_t i) const { return double(alpha[i]) * weight[i] * inverse; }

  void gradients(const std::vector<double> &dscale, const std::vector<double> &dshift, float *dweight, float *dbias,
                 float *dalpha, float *ddelta) const {
    std::copy(dshift.begin(), dshift.end(), ddelta);
    if (!weight) {
      std::copy(dscale.begin(), dscale.end(), dalpha);
      return;
    }
    // The logarithm of 1 / ‖weight‖ has the gradient -weight / ‖weight‖² (l2).
    double towards_norm = 0;
    for (int64_t i = 0; i < size; ++i) {
      double common = (dscale[i] * weight[i] + dshift[i] * bias[i]) * inverse;
      dalpha[i] = common * weight[i];
      dbias[i] = dshift[i] * adapted(i);
      towards_norm += common * weight[i] * alpha[i] * inverse;
    }
    if (norm != 0) towards_norm /= size;
    for (int64_t i = 0; i < size; ++i) {
      double common = (dscale[i] * weight[i] + dshift[i] * bias[i]) * inverse;
      double of_norm = norm == 2 ? (weight[i] > 0) - (weight[i] < 0) : weight[i] * inverse;
      dweight[i] = dscale[i] * adapted(i) + common * alpha[i] - towards_norm * of_norm;
    }
  }
};

}  // namespace
}  // namespace ean

#define EXPORT extern "C" __attribute__((visibility("default")))

// The name of the kernels that run here: default, avx2 or avx512.
EXPORT const char *ean_kernels() { return ean::kernels().name; }

EXPORT int32_t ean_forward(int64_t type, int64_t samples, int64_t channels, int64_t pixels, bool channels_last,
                           const void *z, const float *weight, const float *bias, const float *alpha,
                           const float *delta, int64_t size, int64_t weight_norm, double eps, const void *residual,
                           bool relu, const float *norm_weight, const float *norm_bias, float *norm_mean,
                           float *norm_var, double norm_eps, bool training, void *y, float *moments) {
  ean::Fold fold(weight, bias, alpha, delta, size, weight_norm, eps);
  ean::Forward forward{{type, samples, channels, pixels, channels_last},
                       {norm_weight, norm_bias, norm_mean, norm_var, norm_eps, training},
                       z, residual, y, fold.scale.data(), fold.shift.data(), size, eps, relu, moments,
                       moments + samples * channels};
  return ean::run(forward, &ean::Kernels::forward);
}

EXPORT int32_t ean_backward(int64_t type, int64_t samples, int64_t channels, int64_t pixels, bool channels_last,
                            const void *grad, const void *z, const void *y, const float *moments, const float *weight,
                            const float *bias, const float *alpha, const float *delta, int64_t size,
                            int64_t weight_norm, double eps, const float *norm_weight, const float *norm_bias,
                            const float *norm_mean, const float *norm_var, double norm_eps, bool training, void *dz,
                            void *dresidual, float *dweight, float *dbias, float *dalpha, float *ddelta, float *dnorm) {
  ean::Fold fold(weight, bias, alpha, delta, size, weight_norm, eps);
  int64_t planes = samples * channels;
  std::vector<double> sums(4 * planes);
  ean::Backward backward{{type, samples, channels, pixels, channels_last},
                         {norm_weight, norm_bias, const_cast<float *>(norm_mean), const_cast<float *>(norm_var),
                          norm_eps, training},
                         grad, z, y, dz, dresidual, fold.scale.data(), fold.shift.data(), moments, moments + planes,
                         size, eps, sums.data()};
  int32_t error = ean::run(backward, &ean::Kernels::backward);
  if (error) return error;
  fold.gradients(ean::reduce(backward.map, &sums[ean::kScale * planes], size),
                 ean::reduce(backward.map, &sums[ean::kShift * planes], size), dweight, dbias, dalpha, ddelta);
  if (dnorm) {
    auto of_weight = ean::reduce(backward.map, &sums[ean::kWeight * planes], channels);
    auto of_bias = ean::reduce(backward.map, &sums[ean::kBias * planes], channels);
    std::copy(of_bias.begin(), of_bias.end(), std::copy(of_weight.begin(), of_weight.end(), dnorm));
  }
  return 0;
}
