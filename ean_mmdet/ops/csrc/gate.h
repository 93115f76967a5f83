// The arguments of the gate's kernels, in plain C++: who compiles them needs no tensors.
#pragma once

#include <cstdint>

namespace ean {

enum Type : int64_t { kFloat, kBFloat16, kHalf };

// A feature map of samples × channels × pixels. Pointers to maps are of `type`, all others to float.
struct Map {
  int64_t type, samples, channels, pixels;
  bool channels_last;
};

// The batch norm in front of the gate, x = (z - mean) · weight / sqrt(var + eps) + bias. All null: there is none.
struct Norm {
  const float *weight, *bias;  // (channels) or null
  float *mean, *var;           // (channels); of the batch, where `training` is set
  double eps;
  bool training;
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
  float *mean, *var;  // (samples, channels): each plane's moments of z, written
};

struct Backward {
  Map map;
  Norm norm;
  const void *grad, *z, *y;  // y, the output, or null where there was no ReLU
  void *dz, *dresidual;      // dresidual may be null
  const float *scale, *shift, *mean, *var;
  int64_t shared;
  double eps;
  double *sums;  // (4, samples, channels): each plane's sums for the parameters' gradients, written
};

// What a plane adds to the gradients of the norm's bias and weight, of the shift and of the scale, in `sums`.
enum Sum : int64_t { kBias, kWeight, kShift, kScale };

// Planes that have to be taken together: all of a channel where the batch norm is in training.
inline int64_t batch(const Map &map, const Norm &norm) { return norm.training ? map.samples : 1; }

// One set of kernels for each kind of processor. A task is a channel of `batch` planes, or a block of channels in
// channels_last; `block` is the number of the block's vectors.
struct Kernels {
  const char *name;
  int64_t width;  // floats of a vector
  void (*forward)(const Forward &, int64_t block, int64_t begin, int64_t end);
  void (*backward)(const Backward &, int64_t block, int64_t begin, int64_t end);
};

extern const Kernels kDefault, kAvx2, kAvx512;

}  // namespace ean
