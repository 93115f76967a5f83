// The arguments of the gate's kernels, in plain C++: who compiles them needs no tensors. Symbols are those of
// ../README.md.
#pragma once

#include <cstdint>

namespace ean {

enum Type : int64_t { kFloat, kBFloat16, kHalf };

// A feature map of samples × channels × pixels. Pointers to maps are of `type`, all others to float or double.
struct Map {
  int64_t type, samples, channels, pixels;
  bool channels_last;
  bool single;  // every plane was one pixel, its own mean: the samples are taken for the pixels of one
};

// The batch norm in front of the gate, x = (z - mean) · weight / sqrt(var + eps) + bias. All null: there is none.
struct Norm {
  const float *weight, *bias;  // (channels) or null
  float *mean, *var;           // (channels); of the batch, where `training` is set
  double eps;
  bool training;
};

// What a task takes: so many channels of so many samples. All samples, where the batch norm is in training.
struct Blocks {
  int64_t channels, samples;
};

struct Forward {
  Map map;
  Norm norm;  // in training, mean and var are written
  const void *z, *residual;
  void *y;
  const float *scale, *shift;  // (shared): they recur every `shared` channels
  int64_t shared;
  double eps;
  bool relu;
  float *mean, *var;  // (samples, channels): each plane's moments of z, written where planes are not single pixels
  // Large planes in channels_last are read in slices of so many pixels, as memory has them; 0: they are not.
  int64_t slice = 0;
  float *slice_mean = nullptr, *slice_var = nullptr;  // (samples, slices, channels): scratch
  int64_t slices() const { return (map.pixels + slice - 1) / slice; }
};

struct Backward {
  Map map;
  Norm norm;
  const void *grad, *z, *y;  // y, the output, or null where there was no ReLU
  void *dz, *dresidual;      // dresidual may be null
  const float *scale, *shift;
  const float *mean, *var;  // (samples, channels), as Forward wrote them, or null: they are taken again
  int64_t shared;
  double eps;
  float *du;       // (2, samples, channels): scratch, only where the batch norm is in training
  double *totals;  // (4, ceil(samples / blocks.samples), channels): see Total, written
};

// What a block's planes add to the gradients of the norm's bias and weight, of the shift and of the scale.
enum Total : int64_t { kBias, kWeight, kShift, kScale, kTotals };

// What the library is called with. Vectors are those of EAN, of `size` numbers, and of the batch norm; null where there
// are none.
struct Call {
  int64_t type, samples, channels, pixels, channels_last;
  const float *weight, *bias, *alpha, *delta;
  int64_t size, weight_norm;  // 0 l2, 1 rms, 2 l1
  double eps;
  const float *norm_weight, *norm_bias;
  float *norm_mean, *norm_var;
  double norm_eps;
  int64_t training;
};

struct ForwardCall {
  Call call;
  const void *z, *residual;
  int64_t relu;
  void *y;
  float *moments;  // (2, samples, channels), written; for single pixels null
};

struct BackwardCall {
  Call call;
  const void *grad, *z, *y;
  const float *moments;  // may be null
  void *dz, *dresidual;
  float *dweight, *dbias, *dalpha, *ddelta, *dnorm;  // dnorm: (2, channels), of the norm's weight and bias
};

constexpr int64_t SIDE_BY_SIDE = 4;  // vectors of channels that a task takes in channels_last: 256 bytes with AVX-512
constexpr int64_t SMALL = 64;        // pixels of the planes that are transposed, to fill vectors with channels
constexpr int64_t TAKEN_AGAIN = 4;   // pixels of the planes whose moments the backward pass takes again, instead of keeping
constexpr int64_t CHUNK = 2048;      // pixels summed up before their sum goes to the others'

// One set of kernels for each kind of processor. Tasks are numbered by channel, then by sample.
struct Kernels {
  const char *name;
  int64_t width;  // floats of a vector
  void (*forward)(const Forward &, const Blocks &, int64_t begin, int64_t end);
  // The same in slices, tasks being samples times slices: first all slices' moments, then the gate.
  void (*slice_moments)(const Forward &, const Blocks &, int64_t begin, int64_t end);
  void (*slice_gate)(const Forward &, const Blocks &, int64_t begin, int64_t end);
  void (*backward)(const Backward &, const Blocks &, int64_t begin, int64_t end);
};

extern const Kernels kDefault, kAvx2, kAvx512;

}  // namespace ean
