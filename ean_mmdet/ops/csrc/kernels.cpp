// The gate's kernels, on PyTorch's vectors. Compiled once for every kind of processor, with the CPU_CAPABILITY of
// PyTorch's headers. The formulas are those of norm_gate.py.
//
// With z the input, m and w its plane's mean and variance, x = a (z - mu) + b its batch norm and
// r = 1 / sqrt(a² w + eps), the mask's argument is scale · a · r · (z - m) + shift.
#include "gate.h"

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <cmath>

#ifndef EAN_KERNELS
#define EAN_KERNELS kDefault
#define EAN_KERNELS_NAME "default"
#endif

namespace ean {
namespace {

using V = at::vec::Vectorized<float>;
constexpr int64_t W = V::size();
constexpr int64_t CHUNK = 2048;       // pixels of a plane summed in float before they are added up in double
constexpr int64_t ROWS = 256;         // the same in channels_last
constexpr int64_t MAX_BLOCK = 4;      // vectors of channels that a task takes side by side

inline V load(const float *p, int64_t count) { return count == W ? V::loadu(p) : V::loadu(p, count); }
inline void store(float *p, V v, int64_t count) { count == W ? v.store(p) : v.store(p, count); }

template <class T>
inline V load(const T *p, int64_t count) {
  __at_align__ float values[W] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(p[i]);
  return V::loadu(values);
}

template <class T>
inline void store(T *p, V v, int64_t count) {
  __at_align__ float values[W];
  v.store(values);
  for (int64_t i = 0; i < count; ++i) p[i] = static_cast<T>(values[i]);
}

inline double sum(V v) {
  return at::vec::vec_reduce_all<float>([](V x, V y) { return x + y; }, v);
}

#if defined(CPU_CAPABILITY_AVX512) || (defined(CPU_CAPABILITY_AVX2) && defined(__AVX2__))
#define EAN_X86
#endif

// 1 / v to the last digit or two for finite v: an estimate and a step of Newton's, in half the time of a division.
inline V inverse(V v) {
#if defined(CPU_CAPABILITY_AVX512)
  V estimate = _mm512_rcp14_ps(v);
#elif defined(EAN_X86)
  V estimate = _mm256_rcp_ps(v);
#else
  return V(1) / v;
#endif
#if defined(EAN_X86)
  return estimate * at::vec::fnmadd(v, estimate, V(2));
#endif
}

// 2^v for -126 <= v <= 126, to 2e-7: in two thirds of the time of PyTorch's exp_u20, which takes care of all v.
inline V exp2(V v) {
#if defined(EAN_X86)
  V whole = v.round(), part = v - whole;  // 2^v = 2^whole · 2^part, by a polynomial for |part| <= 1/2
  V power = at::vec::fmadd(part, V(0.00133908668f), V(0.00966637395f));
  power = at::vec::fmadd(part, power, V(0.0555035695f));
  power = at::vec::fmadd(part, power, V(0.240223482f));
  power = at::vec::fmadd(part, power, V(0.693147182f));
  power = at::vec::fmadd(part, power, V(1));
#if defined(CPU_CAPABILITY_AVX512)
  return _mm512_scalef_ps(power, whole);
#else
  __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent));
#endif
#else
  return (v * V(0.6931471805599453f)).exp_u20();
#endif
}

// f(offset, count) for every vector of `size` numbers; the last may hold fewer.
template <class F>
inline void for_vectors(int64_t size, const F &f) {
  int64_t i = 0;
  for (; i + W <= size; i += W) f(i, W);
  if (i < size) f(i, size - i);
}

// What the kernels need to know of a plane.
struct Plane {
  float mean, mu, a, b;        // x = a (z - mu) + b
  float factor, offset;        // factor (z - mean) + offset is minus the mask's argument / ln 2, for exp2
  float slope;                 // what du is multiplied with in dz, a · inner
  bool finite;                 // or else NaN and infinity have to come out as they went in
  bool steep;                  // the mask's argument, as in a plane of one value: what cancels is kept apart
  bool odd() const { return !finite || steep; }
  double r, inner;             // inner = scale · r
};

Plane plane(const Norm &norm, const float *scale, const float *shift, int64_t shared, double eps, int64_t channel,
            double mean, double var) {
  bool normed = norm.mean != nullptr;
  double a = normed ? 1 / std::sqrt(norm.var[channel] + norm.eps) : 1;
  if (norm.weight) a *= norm.weight[channel];
  Plane p;
  p.r = 1 / std::sqrt(a * a * var + eps);
  p.inner = scale[channel % shared] * p.r;
  p.slope = a * p.inner;
  constexpr double log2e = 1.4426950408889634;
  p.mean = mean, p.a = a, p.factor = -log2e * a * p.inner, p.offset = -log2e * shift[channel % shared];
  p.mu = normed ? norm.mean[channel] : 0;
  p.b = norm.bias ? norm.bias[channel] : 0;
  p.finite = std::isfinite(p.factor) && std::isfinite(p.offset);
  p.steep = !(std::abs(p.inner) < 16);
  return p;
}

// The same for a vector: of one plane's pixels, or of as many channels.
struct Vectors {
  V mean, mu, a, b, factor, offset, slope;
  bool finite = true, steep = false;
  Vectors() = default;
  explicit Vectors(const Plane &p)
      : mean(p.mean), mu(p.mu), a(p.a), b(p.b), factor(p.factor), offset(p.offset), slope(p.slope),
        finite(p.finite), steep(p.steep) {}
  Vectors(const Plane *planes, int64_t count) {
    for (int64_t i = 0; i < count; ++i) finite = finite && planes[i].finite, steep = steep || planes[i].steep;
    mean = gather(planes, count, &Plane::mean), mu = gather(planes, count, &Plane::mu);
    a = gather(planes, count, &Plane::a), b = gather(planes, count, &Plane::b);
    factor = gather(planes, count, &Plane::factor), offset = gather(planes, count, &Plane::offset);
    slope = gather(planes, count, &Plane::slope);
  }
  template <class N>
  static V gather(const Plane *planes, int64_t count, N Plane::*member) {
    __at_align__ float values[W] = {};
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(planes[i].*member);
    return V::loadu(values);
  }
  V x(V z) const { return at::vec::fmadd(z - mu, a, b); }
  // The fast exponential takes NaN for a number. ODD: where there may be odd planes, which slows down all.
  template <bool ODD>
  V mask(V centered) const {
    V argument = at::vec::fmadd(centered, factor, offset);
    if (ODD && !finite) return V(1) / (V(1) + argument.map([](float value) { return std::exp2(value); }));
    return inverse(V(1) + exp2(at::vec::clamp(argument, V(-126), V(126))));
  }
};

struct Moments {
  double mean = 0, squares = 0;
  int64_t count = 0;
  // Chan, Golub and LeVeque's formula for the moments of two sets.
  void add(double other_mean, double other_squares, int64_t other_count) {
    if (!count) {
      mean = other_mean, squares = other_squares, count = other_count;
      return;
    }
    double delta = other_mean - mean, share = double(other_count) / (count + other_count);
    mean += delta * share;
    squares += other_squares + delta * delta * count * share;
    count += other_count;
  }
  double var() const { return squares / count; }
};

// ---------------------------------------------------------------------------------------------------------- contiguous

template <class T>
Moments moments(const T *z, int64_t pixels) {
  Moments all;
  for (int64_t begin = 0; begin < pixels; begin += CHUNK) {
    const T *chunk = z + begin;
    int64_t count = std::min(CHUNK, pixels - begin);
    V sum0(0), sum1(0), square0(0), square1(0);
    int64_t i = 0;
    for (; i + 2 * W <= count; i += 2 * W) {
      sum0 = sum0 + load(chunk + i, W);
      sum1 = sum1 + load(chunk + i + W, W);
    }
    for_vectors(count - i, [&](int64_t j, int64_t n) { sum0 = sum0 + load(chunk + i + j, n); });
    float origin = static_cast<float>(sum(sum0 + sum1) / count);
    V center(origin);
    sum0 = sum1 = V(0);
    for (i = 0; i + 2 * W <= count; i += 2 * W) {
      V d0 = load(chunk + i, W) - center, d1 = load(chunk + i + W, W) - center;
      sum0 = sum0 + d0, sum1 = sum1 + d1;
      square0 = at::vec::fmadd(d0, d0, square0), square1 = at::vec::fmadd(d1, d1, square1);
    }
    for_vectors(count - i, [&](int64_t j, int64_t n) {
      V d = V::set(V(0), load(chunk + i + j, n) - center, n);
      sum0 = sum0 + d, square0 = at::vec::fmadd(d, d, square0);
    });
    double shift = sum(sum0 + sum1) / count;
    all.add(origin + shift, sum(square0 + square1) - shift * shift * count, count);
  }
  return all;
}

// The channel's moments over all samples, for a batch norm in training.
void batch_moments(const Forward &f, int64_t channel) {
  Moments all;
  for (int64_t n = 0; n < f.map.samples; ++n) {
    int64_t index = n * f.map.channels + channel;
    all.add(f.mean[index], double(f.var[index]) * f.map.pixels, f.map.pixels);
  }
  f.norm.mean[channel] = all.mean, f.norm.var[channel] = all.var();
}

template <class T, bool RESIDUAL, bool RELU, bool ODD>
void gate(const T *z, const T *residual, T *y, int64_t pixels, const Vectors p) {
  for_vectors(pixels, [=](int64_t i, int64_t n) {
    V value = load(z + i, n);
    V out = p.x(value) * p.mask<ODD>(value - p.mean);
    if (RESIDUAL) out = out + load(residual + i, n);
    if (RELU) out = at::vec::clamp_min(out, V(0));
    store(y + i, out, n);
  });
}

template <class T, bool RESIDUAL, bool RELU>
void forward_contiguous(const Forward &f, int64_t begin, int64_t end) {
  int64_t pixels = f.map.pixels, channels = f.map.channels, batch_size = batch(f.map, f.norm);
  const T *z = static_cast<const T *>(f.z), *residual = static_cast<const T *>(f.residual);
  T *y = static_cast<T *>(f.y);
  for (int64_t task = begin; task < end; ++task) {
    // Planes `channels` apart; a task of one plane starts at its own.
    int64_t channel = task % channels;
    for (int64_t n = 0; n < batch_size; ++n) {
      int64_t index = task + n * channels;
      Moments m = moments(z + index * pixels, pixels);
      f.mean[index] = m.mean, f.var[index] = m.var();
    }
    if (f.norm.training) batch_moments(f, channel);
    for (int64_t n = 0; n < batch_size; ++n) {
      int64_t index = task + n * channels, at = index * pixels;
      Plane p = plane(f.norm, f.scale, f.shift, f.shared, f.eps, channel, f.mean[index], f.var[index]);
      auto run = p.odd() ? gate<T, RESIDUAL, RELU, true> : gate<T, RESIDUAL, RELU, false>;
      run(z + at, RESIDUAL ? residual + at : nullptr, y + at, pixels, Vectors(p));
    }
  }
}

// The sums over a plane of gq, gq (z - m), du and du (z - m).
struct Sums {
  double gq = 0, gq_z = 0, du = 0, du_z = 0;
};

// Writes what a plane adds to the parameters' gradients.
void write_sums(const Backward &b, const Sums &s, const Plane &p, int64_t index) {
  int64_t planes = b.map.samples * b.map.channels;
  b.sums[kBias * planes + index] = s.gq;
  double normed = 1 / std::sqrt(b.norm.mean ? b.norm.var[index % b.map.channels] + b.norm.eps : 1.0);
  double product = s.gq_z + p.inner * s.du_z * b.eps * p.r * p.r;
  b.sums[kWeight * planes + index] = normed * (product + (double(p.mean) - p.mu) * s.gq);
  b.sums[kShift * planes + index] = s.du;
  b.sums[kScale * planes + index] = p.a * p.r * s.du_z;
}

// The means over batch and pixels of what goes into a batch norm's gradients, in training; else zero.
struct NormMeans {
  double bias = 0, weight = 0;  // weight: times 1 / sqrt(var + eps)
  NormMeans() = default;
  NormMeans(const Backward &b, int64_t channel) {
    if (!b.norm.training) return;
    int64_t channels = b.map.channels, planes = b.map.samples * channels;
    for (int64_t i = channel; i < planes; i += channels) {
      bias += b.sums[kBias * planes + i];
      weight += b.sums[kWeight * planes + i];
    }
    double count = double(b.map.pixels) * b.map.samples;
    bias /= count, weight /= count * std::sqrt(b.norm.var[channel] + b.norm.eps);
  }
};

// dz is a · gq + slope (du - du_mean) + constant + linear (z - m).
struct Line {
  float du_mean, constant, linear;
};

Line line(const Backward &b, const NormMeans &means, const Plane &p, int64_t index) {
  int64_t planes = b.map.samples * b.map.channels;
  double pixels = b.map.pixels;
  double du_mean = b.sums[kShift * planes + index] / pixels;
  double constant = -p.a * (means.bias + means.weight * (double(p.mean) - p.mu));
  double linear = -double(p.slope) * p.r * p.a * b.sums[kScale * planes + index] / pixels - p.a * means.weight;
  // Where a · gq + slope · du is stored, the constants go into one.
  if (!p.steep) constant -= double(p.slope) * du_mean;
  return {static_cast<float>(du_mean), static_cast<float>(constant), static_cast<float>(linear)};
}

// The gradient in front of the ReLU.
template <bool RELU, class T>
inline V stopped(const T *grad, const T *y, int64_t count) {
  V g = load(grad, count);
  if (RELU) g = V::blendv(g, V(0), load(y, count) <= V(0));
  return g;
}

template <bool ODD>
inline void mask_gradient(const Vectors &p, V z, V g, V &centered, V &gq, V &du) {
  centered = z - p.mean;
  V q = p.mask<ODD>(centered);
  gq = g * q;
  du = gq * (V(1) - q) * p.x(z);
}

// dz; du_mean is 0 where `constant` has it.
inline V gradient(const Vectors &p, V centered, V gq, V du, V du_mean, V constant, V linear) {
  V direct = at::vec::fmadd(du - du_mean, p.slope, gq * p.a);
  return direct + at::vec::fmadd(centered, linear, constant);
}

// Whether dz holds a · gq + slope · du between the two passes, or the second computes that again.
template <class T, bool ODD>
inline bool stored(const Vectors &p) {
  return std::is_same<T, float>::value && !(ODD && p.steep);
}

// Writes dresidual and perhaps, to dz, a · gq + slope · du.
template <class T, bool RELU, bool ODD>
Sums sums(const T *grad, const T *z, const T *y, T *dz, T *dresidual, int64_t pixels, const Vectors p) {
  Sums all;
  for (int64_t begin = 0; begin < pixels; begin += CHUNK) {
    V gq_sum(0), gq_z(0), du_sum(0), du_z(0);
    for_vectors(std::min(CHUNK, pixels - begin), [&](int64_t j, int64_t n) {
      int64_t i = begin + j;
      V g = stopped<RELU>(grad + i, y + i, n), centered, gq, du;
      mask_gradient<ODD>(p, load(z + i, n), g, centered, gq, du);
      gq_sum = gq_sum + gq, du_sum = du_sum + du;
      gq_z = at::vec::fmadd(gq, centered, gq_z), du_z = at::vec::fmadd(du, centered, du_z);
      if (stored<T, ODD>(p)) store(dz + i, at::vec::fmadd(du, p.slope, gq * p.a), n);
      if (dresidual) store(dresidual + i, g, n);
    });
    all.gq += sum(gq_sum), all.gq_z += sum(gq_z), all.du += sum(du_sum), all.du_z += sum(du_z);
  }
  return all;
}

template <class T, bool RELU, bool ODD>
void gradients(const T *grad, const T *z, const T *y, T *dz, int64_t pixels, const Vectors p, Line l) {
  V du_mean(p.steep ? l.du_mean : 0), constant(l.constant), linear(l.linear);
  for_vectors(pixels, [=](int64_t i, int64_t n) {
    V value = load(z + i, n), centered = value - p.mean, gq, du;
    if (stored<T, ODD>(p)) {
      store(dz + i, at::vec::fmadd(centered, linear, load(dz + i, n) + constant), n);
    } else {
      mask_gradient<ODD>(p, value, stopped<RELU>(grad + i, y + i, n), centered, gq, du);
      store(dz + i, gradient(p, centered, gq, du, du_mean, constant, linear), n);
    }
  });
}

template <class T, bool RELU>
void backward_contiguous(const Backward &b, int64_t begin, int64_t end) {
  int64_t pixels = b.map.pixels, channels = b.map.channels, batch_size = batch(b.map, b.norm);
  const T *grad = static_cast<const T *>(b.grad), *z = static_cast<const T *>(b.z), *y = static_cast<const T *>(b.y);
  T *dz = static_cast<T *>(b.dz), *dresidual = static_cast<T *>(b.dresidual);
  auto of = [&](int64_t index, int64_t channel) {
    return plane(b.norm, b.scale, b.shift, b.shared, b.eps, channel, b.mean[index], b.var[index]);
  };
  for (int64_t task = begin; task < end; ++task) {
    int64_t channel = task % channels;
    for (int64_t n = 0; n < batch_size; ++n) {
      int64_t index = task + n * channels, at = index * pixels;
      Plane p = of(index, channel);
      auto run = p.odd() ? sums<T, RELU, true> : sums<T, RELU, false>;
      Sums s = run(grad + at, z + at, RELU ? y + at : nullptr, dz + at, dresidual ? dresidual + at : nullptr, pixels,
                   Vectors(p));
      write_sums(b, s, p, index);
    }
    NormMeans means(b, channel);
    for (int64_t n = 0; n < batch_size; ++n) {
      int64_t index = task + n * channels, at = index * pixels;
      Plane p = of(index, channel);
      auto run = p.odd() ? gradients<T, RELU, true> : gradients<T, RELU, false>;
      run(grad + at, z + at, RELU ? y + at : nullptr, dz + at, pixels, Vectors(p),
          line(b, means, p, index));
    }
  }
}

// ------------------------------------------------------------------------------------------------------- channels_last

// A task's channels: `block` vectors side by side, of one sample or of all.
struct Columns {
  int64_t sample, channel, count, vectors;
  Columns(const Map &map, int64_t block, int64_t task) {
    int64_t size = block * W, blocks = (map.channels + size - 1) / size;
    sample = task / blocks, channel = task % blocks * size;
    count = std::min(size, map.channels - channel), vectors = (count + W - 1) / W;
  }
  int64_t width(int64_t k) const { return std::min(W, count - k * W); }
};

template <class T>
void column_moments(const T *z, const Map &map, const Columns &columns, float *mean_out, float *var_out) {
  V base[MAX_BLOCK], mean[MAX_BLOCK], squares[MAX_BLOCK];  // means less `base`, so that a large one keeps its digits
  for (int64_t begin = 0; begin < map.pixels; begin += ROWS) {
    const T *rows = z + begin * map.channels;
    int64_t count = std::min(ROWS, map.pixels - begin);
    V origin[MAX_BLOCK], shift[MAX_BLOCK], square[MAX_BLOCK];
    for (int64_t k = 0; k < columns.vectors; ++k) origin[k] = shift[k] = square[k] = V(0);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < columns.vectors; ++k)
        origin[k] = origin[k] + load(rows + i * map.channels + k * W, columns.width(k));
    for (int64_t k = 0; k < columns.vectors; ++k) origin[k] = origin[k] / V(float(count));
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < columns.vectors; ++k) {
        V d = load(rows + i * map.channels + k * W, columns.width(k)) - origin[k];
        shift[k] = shift[k] + d, square[k] = at::vec::fmadd(d, d, square[k]);
      }
    float share = float(count) / float(begin + count);
    for (int64_t k = 0; k < columns.vectors; ++k) {
      V correction = shift[k] / V(float(count));
      square[k] = square[k] - shift[k] * correction;
      if (begin == 0) {
        base[k] = origin[k], mean[k] = correction, squares[k] = square[k];
      } else {
        V delta = origin[k] - base[k] + correction - mean[k];
        mean[k] = mean[k] + delta * V(share);
        squares[k] = squares[k] + square[k] + delta * delta * V(share * float(begin));
      }
    }
  }
  for (int64_t k = 0; k < columns.vectors; ++k) {
    store(mean_out + k * W, base[k] + mean[k], columns.width(k));
    store(var_out + k * W, squares[k] / V(float(map.pixels)), columns.width(k));
  }
}

// The planes of a sample's columns, their vectors, and whether there are odd planes.
template <class Arguments>
bool column_planes(const Arguments &f, const Columns &columns, int64_t sample, Plane *planes, Vectors *vectors) {
  bool odd = false;
  for (int64_t i = 0; i < columns.count; ++i) {
    int64_t channel = columns.channel + i, index = sample * f.map.channels + channel;
    planes[i] = plane(f.norm, f.scale, f.shift, f.shared, f.eps, channel, f.mean[index], f.var[index]);
    odd = odd || planes[i].odd();
  }
  for (int64_t k = 0; k < columns.vectors; ++k) vectors[k] = Vectors(planes + k * W, columns.width(k));
  return odd;
}

template <class T, bool RESIDUAL, bool RELU, bool ODD>
void gate_columns(const T *z, const T *residual, T *y, const Map &map, const Columns &columns, const Vectors *vectors) {
  for (int64_t i = 0; i < map.pixels; ++i)
    for (int64_t k = 0; k < columns.vectors; ++k) {
      int64_t at = i * map.channels + k * W, n = columns.width(k);
      V value = load(z + at, n);
      V out = vectors[k].x(value) * vectors[k].template mask<ODD>(value - vectors[k].mean);
      if (RESIDUAL) out = out + load(residual + at, n);
      if (RELU) out = at::vec::clamp_min(out, V(0));
      store(y + at, out, n);
    }
}

template <class T, bool RESIDUAL, bool RELU>
void forward_channels_last(const Forward &f, int64_t block, int64_t begin, int64_t end) {
  const T *z = static_cast<const T *>(f.z), *residual = static_cast<const T *>(f.residual);
  T *y = static_cast<T *>(f.y);
  Plane planes[MAX_BLOCK * W];
  Vectors vectors[MAX_BLOCK];
  for (int64_t task = begin; task < end; ++task) {
    Columns columns(f.map, block, task);
    int64_t last = f.norm.training ? f.map.samples : columns.sample + 1;
    for (int64_t n = columns.sample; n < last; ++n) {
      int64_t index = n * f.map.channels + columns.channel;
      column_moments(z + n * f.map.pixels * f.map.channels + columns.channel, f.map, columns, f.mean + index,
                     f.var + index);
    }
    if (f.norm.training)
      for (int64_t i = 0; i < columns.count; ++i) batch_moments(f, columns.channel + i);
    for (int64_t n = columns.sample; n < last; ++n) {
      int64_t at = n * f.map.pixels * f.map.channels + columns.channel;
      bool odd = column_planes(f, columns, n, planes, vectors);
      auto run = odd ? gate_columns<T, RESIDUAL, RELU, true> : gate_columns<T, RESIDUAL, RELU, false>;
      run(z + at, RESIDUAL ? residual + at : nullptr, y + at, f.map, columns, vectors);
    }
  }
}

template <class T, bool RELU, bool ODD>
void column_sums(const T *grad, const T *z, const T *y, T *dz, T *dresidual, const Map &map, const Columns &columns,
                 const Vectors *vectors, Sums *all) {
  __at_align__ float values[W];
  for (int64_t begin = 0; begin < map.pixels; begin += ROWS) {
    V total[4][MAX_BLOCK];
    for (auto &row : total)
      for (V &v : row) v = V(0);
    for (int64_t i = begin; i < std::min(begin + ROWS, map.pixels); ++i)
      for (int64_t k = 0; k < columns.vectors; ++k) {
        int64_t at = i * map.channels + k * W, n = columns.width(k);
        V g = stopped<RELU>(grad + at, y + at, n), centered, gq, du;
        mask_gradient<ODD>(vectors[k], load(z + at, n), g, centered, gq, du);
        total[0][k] = total[0][k] + gq, total[1][k] = at::vec::fmadd(gq, centered, total[1][k]);
        total[2][k] = total[2][k] + du, total[3][k] = at::vec::fmadd(du, centered, total[3][k]);
        if (stored<T, ODD>(vectors[k])) store(dz + at, at::vec::fmadd(du, vectors[k].slope, gq * vectors[k].a), n);
        if (dresidual) store(dresidual + at, g, n);
      }
    for (int64_t k = 0; k < columns.vectors; ++k) {
      double Sums::*members[] = {&Sums::gq, &Sums::gq_z, &Sums::du, &Sums::du_z};
      for (int64_t member = 0; member < 4; ++member) {
        total[member][k].store(values);
        for (int64_t i = 0; i < columns.width(k); ++i) all[k * W + i].*members[member] += values[i];
      }
    }
  }
}

template <class T, bool RELU, bool ODD>
void column_gradients(const T *grad, const T *z, const T *y, T *dz, const Map &map, const Columns &columns,
                      const Vectors *vectors, const V *du_mean, const V *constant, const V *linear) {
  for (int64_t i = 0; i < map.pixels; ++i)
    for (int64_t k = 0; k < columns.vectors; ++k) {
      int64_t at = i * map.channels + k * W, n = columns.width(k);
      V value = load(z + at, n), centered = value - vectors[k].mean, gq, du;
      if (stored<T, ODD>(vectors[k])) {
        store(dz + at, at::vec::fmadd(centered, linear[k], load(dz + at, n) + constant[k]), n);
      } else {
        mask_gradient<ODD>(vectors[k], value, stopped<RELU>(grad + at, y + at, n), centered, gq, du);
        store(dz + at, gradient(vectors[k], centered, gq, du, du_mean[k], constant[k], linear[k]), n);
      }
    }
}

template <class T, bool RELU>
void backward_channels_last(const Backward &b, int64_t block, int64_t begin, int64_t end) {
  const T *grad = static_cast<const T *>(b.grad), *z = static_cast<const T *>(b.z), *y = static_cast<const T *>(b.y);
  T *dz = static_cast<T *>(b.dz), *dresidual = static_cast<T *>(b.dresidual);
  Plane planes[MAX_BLOCK * W];
  Vectors vectors[MAX_BLOCK];
  for (int64_t task = begin; task < end; ++task) {
    Columns columns(b.map, block, task);
    int64_t last = b.norm.training ? b.map.samples : columns.sample + 1;
    for (int64_t n = columns.sample; n < last; ++n) {
      int64_t at = n * b.map.pixels * b.map.channels + columns.channel;
      Sums all[MAX_BLOCK * W];
      bool odd = column_planes(b, columns, n, planes, vectors);
      auto run = odd ? column_sums<T, RELU, true> : column_sums<T, RELU, false>;
      run(grad + at, z + at, RELU ? y + at : nullptr, dz + at, dresidual ? dresidual + at : nullptr, b.map, columns,
          vectors, all);
      for (int64_t i = 0; i < columns.count; ++i)
        write_sums(b, all[i], planes[i], n * b.map.channels + columns.channel + i);
    }
    NormMeans means[MAX_BLOCK * W];
    for (int64_t i = 0; i < columns.count; ++i) means[i] = NormMeans(b, columns.channel + i);
    for (int64_t n = columns.sample; n < last; ++n) {
      int64_t at = n * b.map.pixels * b.map.channels + columns.channel;
      bool odd = column_planes(b, columns, n, planes, vectors);
      __at_align__ float du_means[MAX_BLOCK * W] = {}, constants[MAX_BLOCK * W] = {}, linears[MAX_BLOCK * W] = {};
      for (int64_t i = 0; i < columns.count; ++i) {
        Line l = line(b, means[i], planes[i], n * b.map.channels + columns.channel + i);
        du_means[i] = planes[i].steep ? l.du_mean : 0, constants[i] = l.constant, linears[i] = l.linear;
      }
      V du_mean[MAX_BLOCK], constant[MAX_BLOCK], linear[MAX_BLOCK];
      for (int64_t k = 0; k < columns.vectors; ++k)
        du_mean[k] = V::loadu(du_means + k * W), constant[k] = V::loadu(constants + k * W), linear[k] = V::loadu(linears + k * W);
      auto run = odd ? column_gradients<T, RELU, true> : column_gradients<T, RELU, false>;
      run(grad + at, z + at, RELU ? y + at : nullptr, dz + at, b.map, columns, vectors, du_mean,
          constant, linear);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------ dispatch

template <class T, bool RESIDUAL, bool RELU>
void forward_layout(const Forward &f, int64_t block, int64_t begin, int64_t end) {
  if (f.map.channels_last)
    forward_channels_last<T, RESIDUAL, RELU>(f, block, begin, end);
  else
    forward_contiguous<T, RESIDUAL, RELU>(f, begin, end);
}

template <class T>
void forward_type(const Forward &f, int64_t block, int64_t begin, int64_t end) {
  if (f.residual)
    f.relu ? forward_layout<T, true, true>(f, block, begin, end) : forward_layout<T, true, false>(f, block, begin, end);
  else
    f.relu ? forward_layout<T, false, true>(f, block, begin, end)
           : forward_layout<T, false, false>(f, block, begin, end);
}

template <class T, bool RELU>
void backward_layout(const Backward &b, int64_t block, int64_t begin, int64_t end) {
  if (b.map.channels_last)
    backward_channels_last<T, RELU>(b, block, begin, end);
  else
    backward_contiguous<T, RELU>(b, begin, end);
}

template <class T>
void backward_type(const Backward &b, int64_t block, int64_t begin, int64_t end) {
  b.y ? backward_layout<T, true>(b, block, begin, end) : backward_layout<T, false>(b, block, begin, end);
}

void forward(const Forward &f, int64_t block, int64_t begin, int64_t end) {
  if (f.map.type == kFloat) forward_type<float>(f, block, begin, end);
  if (f.map.type == kBFloat16) forward_type<c10::BFloat16>(f, block, begin, end);
  if (f.map.type == kHalf) forward_type<c10::Half>(f, block, begin, end);
}

void backward(const Backward &b, int64_t block, int64_t begin, int64_t end) {
  if (b.map.type == kFloat) backward_type<float>(b, block, begin, end);
  if (b.map.type == kBFloat16) backward_type<c10::BFloat16>(b, block, begin, end);
  if (b.map.type == kHalf) backward_type<c10::Half>(b, block, begin, end);
}

}  // namespace

extern const Kernels EAN_KERNELS{EAN_KERNELS_NAME, W, forward, backward};

}  // namespace ean
