// The compiled gate's two entry points, for operators.cpp. Of PyTorch it needs torch_parallel_for of the stable C
// interface (PyTorch 2.10).
#include "gate.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
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

// A map of single pixels as one of one sample, whose planes are the channels: so vectors are full in either layout.
Map view(const Call &c) {
  Map map{c.type, c.samples, c.channels, c.pixels, bool(c.channels_last), false};
  if (map.pixels == 1) map.single = map.channels_last = true, std::swap(map.samples, map.pixels);
  return map;
}

// What a task takes. Only the channels of channels_last depend on the number of threads, and no result on those.
Blocks blocks(const Map &map, const Norm &norm) {
  const int64_t width = kernels().width;
  int64_t channels = std::clamp<int64_t>(map.pixels <= SMALL ? width : CHUNK / map.pixels, 1, width);
  int64_t samples = std::clamp<int64_t>(GRAIN / 8 / (width * map.pixels), 1, map.samples);
  if (map.channels_last) {
    uint32_t threads = 1;
    torch_get_num_threads(&threads);
    channels = SIDE_BY_SIDE * width;
    const int64_t planes = (norm.training ? 1 : map.samples) * map.channels;
    while (channels > width && planes < 4 * int64_t(threads) * channels) channels /= 2;
  }
  return {channels, norm.training ? map.samples : samples};
}

int64_t chunks(const Map &map, const Blocks &blocks) { return (map.samples + blocks.samples - 1) / blocks.samples; }

template <class Arguments>
int32_t run(const Arguments &arguments, const Blocks &blocks, int64_t tasks, int64_t elements,
            void (*Kernels::*kernel)(const Arguments &, const Blocks &, int64_t, int64_t)) {
  struct Context {
    const Arguments &arguments;
    const Blocks &blocks;
    void (*kernel)(const Arguments &, const Blocks &, int64_t, int64_t);
  } context{arguments, blocks, kernels().*kernel};
  auto call = [](int64_t begin, int64_t end, void *pointer) {
    auto *c = static_cast<Context *>(pointer);
    c->kernel(c->arguments, c->blocks, begin, end);
  };
  return torch_parallel_for(0, tasks, std::max<int64_t>(1, GRAIN / elements), call, &context);
}

template <class Arguments>
int32_t run(const Arguments &arguments, const Blocks &blocks,
            void (*Kernels::*kernel)(const Arguments &, const Blocks &, int64_t, int64_t)) {
  const Map &map = arguments.map;
  int64_t tasks = (map.channels + blocks.channels - 1) / blocks.channels * chunks(map, blocks);
  return run(arguments, blocks, tasks, map.pixels * blocks.channels * blocks.samples, kernel);
}

// The planes' moments from those of their slices.
void join_slices(const Forward &f) {
  const int64_t channels = f.map.channels, slices = f.slices();
  std::vector<double> mean(channels), squares(channels);
  for (int64_t n = 0; n < f.map.samples; ++n) {
    std::fill(mean.begin(), mean.end(), 0), std::fill(squares.begin(), squares.end(), 0);
    auto each = [&](auto add) {
      for (int64_t s = 0; s < slices; ++s) {
        double share = double(std::min(f.slice, f.map.pixels - s * f.slice)) / f.map.pixels;
        for (int64_t i = 0, at = (n * slices + s) * channels; i < channels; ++i) add(i, at + i, share);
      }
    };
    each([&](int64_t i, int64_t at, double share) { mean[i] += share * f.slice_mean[at]; });
    each([&](int64_t i, int64_t at, double share) {
      double d = f.slice_mean[at] - mean[i];
      squares[i] += share * (f.slice_var[at] + d * d);
    });
    std::copy(mean.begin(), mean.end(), f.mean + n * channels);
    std::copy(squares.begin(), squares.end(), f.var + n * channels);
  }
}

int32_t run_forward(Forward &forward) {
  const Map &map = forward.map;
  Blocks blocks = ean::blocks(map, forward.norm);
  // One sample's columns lie far apart, and in another core's cache, as a convolution shares out rows.
  bool sliced = map.channels_last && !map.single && map.samples < 8 && map.pixels >= CHUNK / 8;
  if (!sliced || forward.norm.training)
    return run(forward, blocks, &Kernels::forward);
  forward.slice = std::max<int64_t>(64, 2 * GRAIN / map.channels);
  int64_t tasks = map.samples * forward.slices();
  std::unique_ptr<float[]> scratch(new float[2 * tasks * map.channels]);
  forward.slice_mean = scratch.get(), forward.slice_var = scratch.get() + tasks * map.channels;
  int32_t error = run(forward, blocks, tasks, forward.slice * map.channels, &Kernels::slice_moments);
  if (error) return error;
  join_slices(forward);
  return run(forward, blocks, tasks, forward.slice * map.channels, &Kernels::slice_gate);
}

// Totals added up, over the blocks of samples and over all channels that share a number.
std::vector<double> reduce(const double *totals, int64_t chunks, int64_t channels, int64_t shared) {
  std::vector<double> sums(shared);
  for (int64_t i = 0; i < chunks * channels; i += shared)
    for (int64_t j = 0; j < shared; ++j) sums[j] += totals[i + j];
  return sums;
}

// EAN's vectors and what fold.py makes of them.
struct Fold {
  const float *weight, *bias, *alpha, *delta;  // (size); weight and bias are null where there is nothing to fold
  int64_t size, norm;
  double inverse = 1;                          // 1 / ‖weight‖
  std::vector<float> scale, shift;

  explicit Fold(const Call &c)
      : weight(c.weight), bias(c.bias), alpha(c.alpha), delta(c.delta), size(c.size), norm(c.weight_norm),
        scale(alpha, alpha + size), shift(delta, delta + size) {
    if (!weight) return;
    double total = 0;
    for (int64_t i = 0; i < size; ++i)
      total += norm == 2 ? std::abs(double(weight[i])) : double(weight[i]) * weight[i];
    if (norm != 0) total /= size;
    inverse = norm == 2 ? 1 / (total + c.eps) : 1 / std::sqrt(total + c.eps);
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

Norm norm_of(const Call &c) {
  return {c.norm_weight, c.norm_bias, c.norm_mean, c.norm_var, c.norm_eps, bool(c.training)};
}

}  // namespace
}  // namespace ean

#define EXPORT extern "C" __attribute__((visibility("default")))

// Counted up where the operators change: by it norm_gate_cpp.py tells a library of another version.
EXPORT int32_t ean_interface() { return 2; }

// The name of the kernels that run here: default, avx2 or avx512.
EXPORT const char *ean_kernels() { return ean::kernels().name; }

EXPORT int32_t ean_forward(const ean::ForwardCall *f) {
  const ean::Call &c = f->call;
  ean::Fold fold(c);
  ean::Forward forward{ean::view(c), ean::norm_of(c), f->z, f->residual, f->y, fold.scale.data(), fold.shift.data(),
                       c.size, c.eps, bool(f->relu), f->moments, f->moments ? f->moments + c.samples * c.channels : nullptr};
  return ean::run_forward(forward);
}

EXPORT int32_t ean_backward(const ean::BackwardCall *b) {
  const ean::Call &c = b->call;
  ean::Fold fold(c);
  ean::Map map = ean::view(c);
  ean::Norm norm = ean::norm_of(c);
  ean::Blocks blocks = ean::blocks(map, norm);
  const int64_t channels = c.channels, chunks = ean::chunks(map, blocks);
  std::unique_ptr<float[]> du(c.training ? new float[2 * map.samples * channels] : nullptr);
  std::unique_ptr<double[]> totals(new double[ean::kTotals * chunks * channels]);
  ean::Backward backward{map, norm, b->grad, b->z, b->y, b->dz, b->dresidual, fold.scale.data(), fold.shift.data(),
                         b->moments, b->moments ? b->moments + c.samples * channels : nullptr, c.size, c.eps, du.get(), totals.get()};
  int32_t error = ean::run(backward, blocks, &ean::Kernels::backward);
  if (error) return error;
  auto total = [&](int64_t which, int64_t shared) {
    return ean::reduce(&totals[which * chunks * channels], chunks, channels, shared);
  };
  fold.gradients(total(ean::kScale, c.size), total(ean::kShift, c.size), b->dweight, b->dbias, b->dalpha, b->ddelta);
  if (b->dnorm) {
    auto of_weight = total(ean::kWeight, channels), of_bias = total(ean::kBias, channels);
    std::copy(of_bias.begin(), of_bias.end(), std::copy(of_weight.begin(), of_weight.end(), b->dnorm));
  }
  return 0;
}
