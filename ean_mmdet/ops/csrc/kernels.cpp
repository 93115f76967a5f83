// The gate's kernels, on PyTorch's vectors. Compiled once for every kind of processor, with the CPU_CAPABILITY of
// PyTorch's headers. Formulas and symbols are in ../README.md.
//
// A task is a block of channels of one or more samples. What belongs to a plane or channel lies in arrays, a lane for
// each of the block's channels; what belongs to pixels goes through vectors, which hold pixels of one plane (`Rows`) or
// as many channels (`Columns`). Every pass is written once, for both.
#include "gate.h"

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <bit>
#include <cmath>

#ifndef EAN_KERNELS
#define EAN_KERNELS kDefault
#define EAN_KERNELS_NAME "default"
#endif

#if defined(CPU_CAPABILITY_AVX512) || (defined(CPU_CAPABILITY_AVX2) && defined(__AVX2__))
#define EAN_X86
#endif

namespace ean {
namespace {

using V = at::vec::Vectorized<float>;
using at::vec::fmadd;
constexpr int64_t W = V::size();
constexpr int64_t LANES = SIDE_BY_SIDE * W;

inline V load(const float *p, int64_t count) { return count == W ? V::loadu(p) : V::loadu(p, count); }
inline void store(float *p, V v, int64_t count) { count == W ? v.store(p) : v.store(p, count); }

template <class T>
inline V load(const T *p, int64_t count) {
  V v;
  if (count == W) {
    at::vec::load_to_float<T>(p, v);
    return v;
  }
  alignas(64) T values[W] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = p[i];
  at::vec::load_to_float<T>(values, v);
  return v;
}

#if defined(CPU_CAPABILITY_AVX512)
inline void store_vector(c10::BFloat16 *p, V v) { _mm256_storeu_si256((__m256i *)p, at::vec::cvtfp32_bf16(v)); }
inline void store_vector(c10::Half *p, V v) { _mm256_storeu_si256((__m256i *)p, at::vec::cvtfp32_fp16(v)); }
#elif defined(EAN_X86)
inline void store_vector(c10::BFloat16 *p, V v) { _mm_storeu_si128((__m128i *)p, at::vec::cvtfp32_bf16(v)); }
inline void store_vector(c10::Half *p, V v) { _mm_storeu_si128((__m128i *)p, at::vec::cvtfp32_fp16(v)); }
#else
template <class T>
inline void store_vector(T *p, V v) {
  alignas(64) float values[W];
  v.store(values);
  for (int64_t i = 0; i < W; ++i) p[i] = static_cast<T>(values[i]);
}
#endif

template <class T>
inline void store(T *p, V v, int64_t count) {
  if (count == W) return store_vector(p, v);
  alignas(64) T values[W];
  store_vector(values, v);
  for (int64_t i = 0; i < count; ++i) p[i] = values[i];
}

inline V sum(V v) {
  return V(at::vec::vec_reduce_all<float>([](V x, V y) { return x + y; }, v));
}

// -------------------------------------------------------------------------------------------------------- the sigmoid

// 1 / v to the last digit or two for 1 <= v < 2^127: an estimate and a step of Newton's, in half a division's time.
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

// 1 / sqrt(v) likewise, for normal v: a third of a square root's and a division's time.
inline V inverse_root(V v) {
#if defined(CPU_CAPABILITY_AVX512)
  V estimate = _mm512_rsqrt14_ps(v);
#elif defined(EAN_X86)
  V estimate = _mm256_rsqrt_ps(v);
#else
  return V(1) / v.sqrt();
#endif
#if defined(EAN_X86)
  return estimate * at::vec::fnmadd(v * V(0.5f), estimate * estimate, V(1.5f));
#endif
}

// 2^v to 2e-7, of NaN NaN, and 2^126 for all v above: in half the time of PyTorch's exp_u20, which knows no NaN either.
inline V exp2(V v) {
#if defined(EAN_X86)
#if defined(CPU_CAPABILITY_AVX512)
  v = _mm512_min_ps(V(126), v);  // in this order, NaN stays
  V part = _mm512_reduce_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), whole = v - part;
#else
  v = _mm256_max_ps(V(-126), _mm256_min_ps(V(126), v));
  V whole = v.round(), part = v - whole;
#endif
  // 2^v = 2^whole · 2^part, by a polynomial for |part| <= 1/2
  V power = fmadd(part, V(0.00133908668f), V(0.00966637395f));
  power = fmadd(part, power, V(0.0555035695f));
  power = fmadd(part, power, V(0.240223482f));
  power = fmadd(part, power, V(0.693147182f));
  power = fmadd(part, power, V(1));
#if defined(CPU_CAPABILITY_AVX512)
  return _mm512_scalef_ps(power, whole);
#else
  __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent));
#endif
#else
  // The same in a loop that compilers make vectors of; PyTorch's exp would call the C library's for each number.
  alignas(64) float values[W];
  v.store(values);
  for (int64_t i = 0; i < W; ++i) {
    float x = values[i] > 126 ? 126 : values[i];
    x = x < -126 ? -126 : x;
    float whole = (x + 12582912.f) - 12582912.f, part = x - whole;  // 1.5 · 2^23, whose last digit is the ones
    float power = 0.00133908668f * part + 0.00966637395f;
    power = power * part + 0.0555035695f;
    power = power * part + 0.240223482f;
    power = power * part + 0.693147182f;
    power = power * part + 1;
    values[i] = std::bit_cast<float>(std::bit_cast<int32_t>(power) + (static_cast<int32_t>(whole) << 23));
  }
  return V::loadu(values);
#endif
}

// ------------------------------------------------------------------------------------- where a block's vectors lie

// Pixels of one plane, K vectors at a time.
template <int K>
struct Rows {
  static constexpr int SUMS = K, KEPT = 1;  // sums side by side in a loop, and those that are left of them
  int64_t pixels;
  int64_t chunk() const { return CHUNK; }

  // f(k, offset, count) for all vectors of the pixels, `count` numbers that are part of sum k.
  template <class F>
  void each(int64_t begin, int64_t end, const F &f) const {
    int64_t i = begin;
    for (; i + K * W <= end; i += K * W)
      for (int k = 0; k < K; ++k) f(k, i + k * W, W);
    for (; i + W <= end; i += W) f(0, i, W);
    if (i < end) f(0, i, end - i);
  }
  // `value` with zeros behind its `count` numbers, for sums.
  static V only(V value, int64_t count) { return count == W ? value : V::set(V(0), value, count); }
  static void reduce(V *sums) {
    for (int k = 1; k < K; ++k) sums[0] = sums[0] + sums[k];
    sums[0] = sum(sums[0]);
  }
  static V get(const float *lanes, int) { return V(*lanes); }
  static void put(float *lanes, V value, int) { value.store(lanes, 1); }
};

// K vectors of channels, or one that may be short, pixel by pixel.
template <int K>
struct Columns {
  static constexpr int SUMS = K, KEPT = K;
  int64_t pixels, stride, count;  // numbers from a pixel to the next; channels of a vector, W if K > 1
  int64_t chunk() const { return CHUNK / 8; }

  template <class F>
  void each(int64_t begin, int64_t end, const F &f) const {
    if (K > 1 || count == W)
      for (int64_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) f(k, i * stride + k * W, W);
    else
      for (int64_t i = begin; i < end; ++i) f(0, i * stride, count);
  }
  static V only(V value, int64_t) { return value; }
  static void reduce(V *) {}
  static V get(const float *lanes, int k) { return V::loadu(lanes + k * W); }
  static void put(float *lanes, V value, int k) { value.store(lanes + k * W); }
};

// In registers: rows[i][j] becomes rows[j][i].
inline void transpose(V *rows) {
#if defined(CPU_CAPABILITY_AVX512)
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  auto pair = [](__m512 x, __m512 y, bool high) {
    __m512d p = _mm512_castps_pd(x), q = _mm512_castps_pd(y);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(p, q) : _mm512_unpacklo_pd(p, q));
  };
  for (int i = 0; i < 16; i += 4) {
    b[i] = pair(a[i], a[i + 2], false), b[i + 1] = pair(a[i], a[i + 2], true);
    b[i + 2] = pair(a[i + 1], a[i + 3], false), b[i + 3] = pair(a[i + 1], a[i + 3], true);
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 16; j += 8) {
      a[j + i] = _mm512_shuffle_f32x4(b[j + i], b[j + 4 + i], 0x88);
      a[j + 4 + i] = _mm512_shuffle_f32x4(b[j + i], b[j + 4 + i], 0xdd);
    }
  for (int i = 0; i < 8; ++i) {
    rows[i] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0x88);
    rows[i + 8] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0xdd);
  }
#elif defined(EAN_X86)
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44), b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44), b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
#else
  alignas(64) float values[W][W], turned[W][W];
  for (int64_t i = 0; i < W; ++i) rows[i].store(values[i]);
  for (int64_t i = 0; i < W; ++i)
    for (int64_t j = 0; j < W; ++j) turned[j][i] = values[i][j];
  for (int64_t i = 0; i < W; ++i) rows[i] = V::loadu(turned[i]);
#endif
}

// The three ways to a block's planes. `each` hands the parts of the block to f(part, offset, lane); K: vectors of
// channels side by side, of which all have the same of `flags`, one for each vector of lanes. `in` and `out` are the way
// between a map and what f reads and writes.

template <class T>
struct Contiguous {
  using Element = T;
  const Map &map;
  int64_t count;  // channels of the block
  template <int K, class F>
  void each(const bool *, const F &f) const {
    for (int64_t i = 0; i < count; ++i) f(Rows<K>{map.pixels}, i * map.pixels, i);
  }
  int64_t offset(int64_t sample, int64_t channel) const { return (sample * map.channels + channel) * map.pixels; }
  const T *in(const T *planes, int) { return planes; }
  T *out(T *planes, int) { return planes; }
  void done(T *, int) {}
};

template <class T>
struct ChannelsLast {
  using Element = T;
  const Map &map;
  int64_t count;
  template <int K, class F>
  void each(const bool *flags, const F &f) const {
    for (int64_t i = 0; i < count;) {
      bool alike = i + K * W <= count;
      for (int64_t k = 1; alike && k < K; ++k) alike = flags[i / W + k] == flags[i / W];
      if (alike)
        f(Columns<K>{map.pixels, map.channels, W}, i, i), i += K * W;
      else
        f(Columns<1>{map.pixels, map.channels, std::min(W, count - i)}, i, i), i += W;
    }
  }
  int64_t offset(int64_t sample, int64_t channel) const { return sample * map.pixels * map.channels + channel; }
  const T *in(const T *planes, int) { return planes; }
  T *out(T *planes, int) { return planes; }
  void done(T *, int) {}
};

// Small contiguous planes: a vector's width of them, transposed.
template <class T>
struct Transposed {
  using Element = float;
  const Map &map;
  int64_t count;
  alignas(64) float tiles[5][SMALL * W];
  Transposed(const Map &map, int64_t count) : map(map), count(count) {}
  template <int K, class F>
  void each(const bool *, const F &f) const {
    f(Columns<1>{map.pixels, W, W}, 0, 0);
  }
  int64_t offset(int64_t sample, int64_t channel) const { return (sample * map.channels + channel) * map.pixels; }
  const float *in(const T *planes, int tile) {
    if (map.pixels == 4 && count == W) {  // four vectors as they lie, of which each pixel has every fourth number
      auto [even, odd] = at::vec::deinterleave2(load(planes, W), load(planes + W, W));
      auto [even_high, odd_high] = at::vec::deinterleave2(load(planes + 2 * W, W), load(planes + 3 * W, W));
      auto [first, third] = at::vec::deinterleave2(even, even_high);
      auto [second, fourth] = at::vec::deinterleave2(odd, odd_high);
      V pixels[] = {first, second, third, fourth};
      for (int i = 0; i < 4; ++i) pixels[i].store(tiles[tile] + i * W);
      return tiles[tile];
    }
    V rows[W];
    for (int64_t begin = 0; begin < map.pixels; begin += W) {
      int64_t size = std::min(W, map.pixels - begin);
      for (int64_t i = 0; i < W; ++i) rows[i] = i < count ? load(planes + i * map.pixels + begin, size) : V(0);
      transpose(rows);
      for (int64_t i = 0; i < size; ++i) rows[i].store(tiles[tile] + (begin + i) * W);
    }
    return tiles[tile];
  }
  float *out(T *, int tile) { return tiles[tile]; }
  void done(T *planes, int tile) {
    if (map.pixels == 4 && count == W) {
      auto pixel = [&](int i) { return V::loadu(tiles[tile] + i * W); };
      auto [even, even_high] = at::vec::interleave2(pixel(0), pixel(2));
      auto [odd, odd_high] = at::vec::interleave2(pixel(1), pixel(3));
      auto [first, second] = at::vec::interleave2(even, odd);
      auto [third, fourth] = at::vec::interleave2(even_high, odd_high);
      V vectors[] = {first, second, third, fourth};
      for (int i = 0; i < 4; ++i) store(planes + i * W, vectors[i], W);
      return;
    }
    V rows[W];
    for (int64_t begin = 0; begin < map.pixels; begin += W) {
      int64_t size = std::min(W, map.pixels - begin);
      for (int64_t i = 0; i < W; ++i) rows[i] = i < size ? V::loadu(tiles[tile] + (begin + i) * W) : V(0);
      transpose(rows);
      for (int64_t i = 0; i < count; ++i) store(planes + i * map.pixels + begin, rows[i], size);
    }
  }
};

// ------------------------------------------------------------------------------------------- what belongs to channels

using Lanes = float[LANES];

// f(lane) for all vectors of `count` lanes, whole ones, so that the compiler needs no rest: arrays are zero behind.
template <class F>
inline void for_lanes(int64_t count, const F &f) {
  for (int64_t begin = 0; begin < count; begin += W)
    for (int64_t i = begin; i < begin + W; ++i) f(i);
}

inline void copy_in(float *lanes, const float *values, int64_t count) {
  for (int64_t i = 0; i < count; i += W) load(values + i, std::min(W, count - i)).store(lanes + i);
}

inline void copy_out(float *values, const float *lanes, int64_t count) {
  for (int64_t i = 0; i < count; i += W) store(values + i, V::loadu(lanes + i), std::min(W, count - i));
}

// A block's channels: x = a z + b, as PyTorch's own batch norm on a CPU has it.
struct Channels {
  alignas(64) Lanes mu = {}, rstd = {}, a = {}, b = {}, scale = {}, offset = {};
  int64_t count;

  template <class Arguments>
  Channels(const Arguments &f, int64_t channel, int64_t count) : count(count) {
    constexpr float log2e = 1.4426950408889634f;
    const float eps = f.norm.eps;
    for (int64_t i = 0, shared = channel % f.shared; i < count; ++i) {
      scale[i] = f.scale[shared], offset[i] = -log2e * f.shift[shared];
      if (++shared == f.shared) shared = 0;
    }
    const bool normed = f.norm.mean;
    for (int64_t i = 0; i < count; ++i) mu[i] = normed ? f.norm.mean[channel + i] : 0;
    for (int64_t i = 0; i < count; ++i) rstd[i] = normed ? 1 / std::sqrt(f.norm.var[channel + i] + eps) : 1;
    for (int64_t i = 0; i < count; ++i) a[i] = f.norm.weight ? rstd[i] * f.norm.weight[channel + i] : rstd[i];
    for (int64_t i = 0; i < count; ++i) b[i] = (f.norm.bias ? f.norm.bias[channel + i] : 0) - a[i] * mu[i];
  }
};

// A sample's planes of these channels. With c = z - mean the attention map is 1 / (1 + 2^(factor c + offset)), and slope is what
// du is multiplied with in dz.
struct Planes {
  alignas(64) Lanes mean = {}, var = {}, r = {}, inner = {}, factor = {}, slope = {};
  // Of each vector of lanes, whether some slope is so large that du may not be rounded before its mean is taken away.
  bool recomputed[SIDE_BY_SIDE] = {};

  // All but mean and variance, from these. `single`: the attention map is the shift's alone; for the mean anything serves, as
  // nothing is left but its product with zero.
  void set(const Channels &c, float eps, bool single) {
    constexpr float log2e = 1.4426950408889634f;
    if (single) return for_lanes(c.count, [&](int64_t i) { mean[i] = c.mu[i]; });
    for (int64_t i = 0; i < c.count; i += W) {
      V scale = V::loadu(c.scale + i), a = V::loadu(c.a + i);
      V root = inverse_root(fmadd(a * a, V::loadu(var + i), V(eps)));
      root.store(r + i), (scale * root).store(inner + i);
      V factor_of_du = a * (scale * root);
      factor_of_du.store(slope + i), (factor_of_du * V(-log2e)).store(factor + i);
    }
  }
  void find_recomputed(int64_t count) {
    for (int64_t begin = 0; begin < count; begin += W) {
      bool found = false;
      for (int64_t i = begin; i < begin + W; ++i) found |= !(std::abs(inner[i]) < 16);
      recomputed[begin / W] = found;
    }
  }
};

// The part of them that a loop over pixels needs, in vectors.
template <class Part>
struct Vectors {
  V mean[Part::KEPT], a[Part::KEPT], b[Part::KEPT], factor[Part::KEPT], offset[Part::KEPT];
  Vectors(const Channels &c, const Planes &p, int64_t lane) {
    for (int k = 0; k < Part::KEPT; ++k) {
      mean[k] = Part::get(p.mean + lane, k), a[k] = Part::get(c.a + lane, k), b[k] = Part::get(c.b + lane, k);
      factor[k] = Part::get(p.factor + lane, k), offset[k] = Part::get(c.offset + lane, k);
    }
  }
  static int of(int k) { return Part::KEPT == 1 ? 0 : k; }
  V centered(V z, int k) const { return z - mean[of(k)]; }
  V x(V z, int k) const { return fmadd(z, a[of(k)], b[of(k)]); }
  V attention(V centered, int k) const { return inverse(V(1) + exp2(fmadd(centered, factor[of(k)], offset[of(k)]))); }
};

// ----------------------------------------------------------------------------------------------- passes over the pixels

// The mean and the variance of each plane.
template <class Part, class T>
void moments(const Part &part, const T *z, float *mean_out, float *var_out) {
  constexpr int K = Part::KEPT, SUMS = Part::SUMS;
  V base[K], mean[K], squares[K];  // means less `base`, so that a large one keeps its digits
  for (int64_t begin = 0; begin < part.pixels; begin += part.chunk()) {
    int64_t end = std::min(begin + part.chunk(), part.pixels);
    V origin[SUMS], shift[SUMS], square[SUMS];
    for (int k = 0; k < SUMS; ++k) origin[k] = shift[k] = square[k] = V(0);
    part.each(begin, end, [&](int k, int64_t at, int64_t n) { origin[k] = origin[k] + load(z + at, n); });
    part.reduce(origin);
    V inverse_count(1 / float(end - begin));
    for (int k = 0; k < K; ++k) origin[k] = origin[k] * inverse_count;
    part.each(begin, end, [&](int k, int64_t at, int64_t n) {
      V d = part.only(load(z + at, n) - origin[K == 1 ? 0 : k], n);
      shift[k] = shift[k] + d, square[k] = fmadd(d, d, square[k]);
    });
    part.reduce(shift), part.reduce(square);
    float share = float(end - begin) / float(end);
    for (int k = 0; k < K; ++k) {
      V correction = shift[k] * inverse_count;
      square[k] = square[k] - shift[k] * correction;
      if (begin == 0) {
        base[k] = origin[k], mean[k] = correction, squares[k] = square[k];
      } else {
        // Chan, Golub and LeVeque's formula for the moments of two sets
        V delta = origin[k] - base[k] + correction - mean[k];
        mean[k] = mean[k] + delta * V(share);
        squares[k] = squares[k] + square[k] + delta * delta * V(share * float(begin));
      }
    }
  }
  for (int k = 0; k < K; ++k) {
    part.put(mean_out, base[k] + mean[k], k);
    part.put(var_out, squares[k] * V(1 / float(part.pixels)), k);
  }
}

template <class Part, class T>
void gate(const Part &part, const T *z, const T *residual, T *y, bool relu, const Channels &channels,
          const Planes &planes, int64_t lane) {
  const Vectors<Part> p(channels, planes, lane);
  part.each(0, part.pixels, [&](int k, int64_t at, int64_t n) {
    V value = load(z + at, n);
    V out = p.x(value, k) * p.attention(p.centered(value, k), k);
    if (residual) out = out + load(residual + at, n);
    if (relu) out = at::vec::clamp_min(out, V(0));
    store(y + at, out, n);
  });
}

// The gradient in front of the ReLU.
template <class T>
inline V before_relu(const T *grad, const T *y, int64_t at, int64_t count) {
  V g = load(grad + at, count);
  return y ? V::blendv(g, V(0), load(y + at, count) <= V(0)) : g;
}

// The sums over a plane of gq, gq c, du and du c.
struct Sums {
  alignas(64) Lanes gq = {}, gq_c = {}, du = {}, du_c = {};
};

// Writes dresidual and, where the second pass won't compute them again (STORED), a · gq + slope · du to dz.
template <bool STORED, class Part, class T>
void sums(const Part &part, const T *grad, const T *z, const T *y, T *dz, T *dresidual, const Channels &channels,
          const Planes &planes, int64_t lane, Sums &out) {
  constexpr int K = Part::KEPT, SUMS = Part::SUMS;
  const Vectors<Part> p(channels, planes, lane);
  V slope[K], total[4][K];
  for (int k = 0; k < K; ++k) slope[k] = Part::get(planes.slope + lane, k);
  for (int64_t begin = 0; begin < part.pixels; begin += part.chunk()) {
    V gq_sum[SUMS], gq_c[SUMS], du_sum[SUMS], du_c[SUMS];
    for (int k = 0; k < SUMS; ++k) gq_sum[k] = gq_c[k] = du_sum[k] = du_c[k] = V(0);
    part.each(begin, std::min(begin + part.chunk(), part.pixels), [&](int k, int64_t at, int64_t n) {
      int kept = K == 1 ? 0 : k;
      V g = before_relu(grad, y, at, n), value = load(z + at, n), c = p.centered(value, k);
      V q = p.attention(c, k), gq = g * q, du = gq * ((V(1) - q) * p.x(value, k));
      gq_sum[k] = gq_sum[k] + gq, gq_c[k] = fmadd(gq, c, gq_c[k]);
      du_sum[k] = du_sum[k] + du, du_c[k] = fmadd(du, c, du_c[k]);
      if (STORED) store(dz + at, fmadd(du, slope[kept], gq * p.a[kept]), n);
      if (dresidual) store(dresidual + at, g, n);
    });
    V *all[] = {gq_sum, gq_c, du_sum, du_c};
    for (int i = 0; i < 4; ++i) {
      part.reduce(all[i]);
      for (int k = 0; k < K; ++k) total[i][k] = begin == 0 ? all[i][k] : total[i][k] + all[i][k];
    }
  }
  float *outs[] = {out.gq, out.gq_c, out.du, out.du_c};
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < K; ++k) part.put(outs[i] + lane, total[i][k], k);
}

// dz is a · gq + slope (du - du_mean) + constant + linear · c; where a · gq + slope · du is stored, `constant` has
// du_mean's part.
struct Gradient {
  alignas(64) Lanes du_mean = {}, constant = {}, linear = {};
};

template <bool STORED, class Part, class T>
void gradients(const Part &part, const T *grad, const T *z, const T *y, T *dz, const Channels &channels,
               const Planes &planes, int64_t lane, const Gradient &gradient) {
  constexpr int K = Part::KEPT;
  const Vectors<Part> p(channels, planes, lane);
  V slope[K], du_mean[K], constant[K], linear[K];
  for (int k = 0; k < K; ++k) {
    slope[k] = Part::get(planes.slope + lane, k), du_mean[k] = Part::get(gradient.du_mean + lane, k);
    constant[k] = Part::get(gradient.constant + lane, k), linear[k] = Part::get(gradient.linear + lane, k);
  }
  part.each(0, part.pixels, [&](int any, int64_t at, int64_t n) {
    int k = K == 1 ? 0 : any;
    V value = load(z + at, n), c = p.centered(value, k);
    if (STORED) {
      store(dz + at, fmadd(c, linear[k], load(dz + at, n) + constant[k]), n);
    } else {
      V q = p.attention(c, k), gq = before_relu(grad, y, at, n) * q, du = gq * ((V(1) - q) * p.x(value, k));
      store(dz + at, fmadd(du - du_mean[k], slope[k], gq * p.a[k]) + fmadd(c, linear[k], constant[k]), n);
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------- tasks

// A task's channels and samples.
struct Task {
  int64_t channel, channels, chunk, first, last;  // `chunk` counts the blocks of samples
  Task(const Map &map, const Blocks &blocks, int64_t task) {
    int64_t across = (map.channels + blocks.channels - 1) / blocks.channels;
    channel = task % across * blocks.channels, channels = std::min(blocks.channels, map.channels - channel);
    chunk = task / across, first = chunk * blocks.samples, last = std::min(first + blocks.samples, map.samples);
  }
};

// A batch norm's moments, in training: the planes', which are of one size, taken together.
void batch_moments(const Forward &f, const Task &t) {
  alignas(64) double mean[LANES] = {}, squares[LANES] = {};
  for (int64_t n = 0; n < f.map.samples; ++n)
    for (int64_t i = 0, at = n * f.map.channels + t.channel; i < t.channels; ++i) mean[i] += f.mean[at + i];
  for (int64_t i = 0; i < t.channels; ++i) mean[i] /= f.map.samples;
  for (int64_t n = 0; n < f.map.samples; ++n)
    for (int64_t i = 0, at = n * f.map.channels + t.channel; i < t.channels; ++i) {
      double d = f.mean[at + i] - mean[i];
      squares[i] += f.var[at + i] + d * d;
    }
  for (int64_t i = 0; i < t.channels; ++i)
    f.norm.mean[t.channel + i] = mean[i], f.norm.var[t.channel + i] = squares[i] / f.map.samples;
}

// The tiles of `Transposed`, by what they hold.
enum Tile { kZ, kGrad, kY, kDz, kOther };

template <class T, class Layout>
void forward_task(const Forward &f, const Task &t) {
  using E = typename Layout::Element;
  Layout layout(f.map, t.channels);
  const T *z = static_cast<const T *>(f.z), *residual = static_cast<const T *>(f.residual);
  T *y = static_cast<T *>(f.y);
  Planes planes;
  const bool alike[SIDE_BY_SIDE] = {};
  auto take_moments = [&](const E *in, float *mean, float *var, int64_t index) {
    layout.template each<4>(alike, [&](auto part, int64_t at, int64_t lane) {
      moments(part, in + at, planes.mean + lane, planes.var + lane);
    });
    copy_out(mean + index, planes.mean, t.channels), copy_out(var + index, planes.var, t.channels);
  };
  if (f.norm.training) {
    float *mean = f.map.single ? f.norm.mean : f.mean, *var = f.map.single ? f.norm.var : f.var;
    for (int64_t n = t.first; n < t.last; ++n)
      take_moments(layout.in(z + layout.offset(n, t.channel), kZ), mean, var, n * f.map.channels + t.channel);
    if (!f.map.single) batch_moments(f, t);
  }
  const Channels channels(f, t.channel, t.channels);
  for (int64_t n = t.first; n < t.last; ++n) {
    int64_t offset = layout.offset(n, t.channel), index = n * f.map.channels + t.channel;
    const E *in = layout.in(z + offset, kZ), *added = residual ? layout.in(residual + offset, kOther) : nullptr;
    E *out = layout.out(y + offset, kY);
    if (!f.map.single) {
      if (f.norm.training)
        copy_in(planes.mean, f.mean + index, t.channels), copy_in(planes.var, f.var + index, t.channels);
      else
        take_moments(in, f.mean, f.var, index);
    }
    planes.set(channels, f.eps, f.map.single);
    layout.template each<4>(alike, [&](auto part, int64_t at, int64_t lane) {
      gate(part, in + at, added ? added + at : nullptr, out + at, f.relu, channels, planes, lane);
    });
    layout.done(y + offset, kY);
  }
}

// f(layout, offset, sample, channel, each) for all blocks of channels of a slice; each(g) hands their parts to g.
template <class T, class F>
void each_of_slice(const Forward &f, int64_t task, const F &function) {
  const bool alike[SIDE_BY_SIDE] = {};
  int64_t sample = task / f.slices(), first = task % f.slices() * f.slice;
  Map slice = f.map;
  slice.pixels = std::min(f.slice, f.map.pixels - first);
  for (int64_t channel = 0; channel < f.map.channels; channel += LANES) {
    ChannelsLast<T> layout{slice, std::min(LANES, f.map.channels - channel)};
    int64_t offset = (sample * f.map.pixels + first) * f.map.channels + channel;
    function(layout, offset, sample, channel, [&](const auto &g) { layout.template each<4>(alike, g); });
  }
}

template <class T>
void slice_moments_task(const Forward &f, int64_t task) {
  const T *z = static_cast<const T *>(f.z);
  alignas(64) Lanes mean, var;
  each_of_slice<T>(f, task, [&](const auto &layout, int64_t offset, int64_t, int64_t channel, const auto &each) {
    each([&](auto part, int64_t at, int64_t lane) { moments(part, z + offset + at, mean + lane, var + lane); });
    copy_out(f.slice_mean + task * f.map.channels + channel, mean, layout.count);
    copy_out(f.slice_var + task * f.map.channels + channel, var, layout.count);
  });
}

template <class T>
void slice_gate_task(const Forward &f, int64_t task) {
  const T *z = static_cast<const T *>(f.z), *residual = static_cast<const T *>(f.residual);
  T *y = static_cast<T *>(f.y);
  Planes planes;
  each_of_slice<T>(f, task, [&](const auto &layout, int64_t offset, int64_t sample, int64_t channel, const auto &each) {
    const Channels channels(f, channel, layout.count);
    copy_in(planes.mean, f.mean + sample * f.map.channels + channel, layout.count);
    copy_in(planes.var, f.var + sample * f.map.channels + channel, layout.count);
    planes.set(channels, f.eps, false);
    each([&](auto part, int64_t at, int64_t lane) {
      at += offset;
      gate(part, z + at, residual ? residual + at : nullptr, y + at, f.relu, channels, planes, lane);
    });
  });
}

// Adds what a sample's planes contribute.
void add_totals(const Sums &s, const Channels &c, const Planes &p, float eps, double (*totals)[LANES]) {
  for_lanes(c.count, [&](int64_t i) {
    float product = s.gq_c[i] + p.inner[i] * s.du_c[i] * eps * p.r[i] * p.r[i];
    totals[kBias][i] += s.gq[i];
    totals[kWeight][i] += double(c.rstd[i]) * (product + (p.mean[i] - c.mu[i]) * s.gq[i]);
    totals[kShift][i] += s.du[i];
    totals[kScale][i] += c.a[i] * p.r[i] * s.du_c[i];
  });
}

template <class T, class Layout>
void backward_task(const Backward &b, const Blocks &blocks, const Task &t) {
  using E = typename Layout::Element;
  // Whether dz can keep a · gq + slope · du between the passes: not in a lesser type than float, and see `recomputed`.
  constexpr bool FLOAT = std::is_same<E, float>::value;
  const bool keeps = FLOAT && (std::is_same<T, float>::value || !b.norm.training);
  Layout layout(b.map, t.channels);
  const T *grad = static_cast<const T *>(b.grad), *z = static_cast<const T *>(b.z), *y = static_cast<const T *>(b.y);
  T *dz = static_cast<T *>(b.dz), *dresidual = static_cast<T *>(b.dresidual);
  alignas(64) double totals[kTotals][LANES] = {};
  const float share = 1 / float(b.map.pixels);
  const double count = double(b.map.pixels) * b.map.samples;
  const Channels channels(b, t.channel, t.channels);
  Planes planes;
  Sums s;
  Gradient gradient;
  auto set_planes = [&](int64_t index, const E *in) {
    const bool alike[SIDE_BY_SIDE] = {};
    if (b.mean)
      copy_in(planes.mean, b.mean + index, t.channels), copy_in(planes.var, b.var + index, t.channels);
    else if (!b.map.single)
      layout.template each<4>(alike, [&](auto part, int64_t at, int64_t lane) {
        moments(part, in + at, planes.mean + lane, planes.var + lane);
      });
    planes.set(channels, b.eps, b.map.single);
    planes.find_recomputed(t.channels);
  };
  auto first_pass = [&](int64_t n) {
    int64_t at = layout.offset(n, t.channel), index = n * b.map.channels + t.channel;
    const E *g = layout.in(grad + at, kGrad), *in = layout.in(z + at, kZ);
    set_planes(index, in);
    const E *out = y ? layout.in(y + at, kY) : nullptr;
    E *dout = layout.out(dz + at, kDz), *dr = dresidual ? layout.out(dresidual + at, kOther) : nullptr;
    layout.template each<2>(planes.recomputed, [&](auto part, int64_t i, int64_t lane) {
      auto run = [&](auto stored) {
        sums<stored>(part, g + i, in + i, out ? out + i : nullptr, dout + i, dr ? dr + i : nullptr, channels, planes,
                     lane, s);
      };
      keeps && !planes.recomputed[lane / W] ? run(std::integral_constant<bool, FLOAT>()) : run(std::false_type());
    });
    if (dresidual) layout.done(dresidual + at, kOther);
    add_totals(s, channels, planes, b.eps, totals);
  };
  alignas(64) Lanes bias = {}, weight = {};  // what the batch norm's gradients take away, in training
  auto second_pass = [&](int64_t n, bool again) {
    int64_t at = layout.offset(n, t.channel), index = n * b.map.channels + t.channel;
    auto input = [&](const T *map, int tile) {
      return again ? layout.in(map + at, tile) : layout.out(const_cast<T *>(map) + at, tile);
    };
    const E *in = input(z, kZ), *g = nullptr, *out = nullptr;
    if (again) set_planes(index, in);
    for_lanes(t.channels, [&](int64_t i) {
      float ar = channels.a[i] * planes.r[i];
      gradient.du_mean[i] = s.du[i] * share;
      gradient.constant[i] = -channels.a[i] * (bias[i] + weight[i] * (planes.mean[i] - channels.mu[i]));
      gradient.linear[i] = -planes.slope[i] * ar * ar * (s.du_c[i] * share) - channels.a[i] * weight[i];
    });
    for (int64_t begin = 0; keeps && begin < t.channels; begin += W)
      if (!planes.recomputed[begin / W])
        for (int64_t i = begin; i < begin + W; ++i) gradient.constant[i] -= planes.slope[i] * gradient.du_mean[i];
    bool recomputes = !keeps;
    for (bool any : planes.recomputed) recomputes |= any;
    if (recomputes) g = input(grad, kGrad), out = y ? input(y, kY) : nullptr;
    if (keeps) input(dz, kDz);
    E *dout = layout.out(dz + at, kDz);
    layout.template each<2>(planes.recomputed, [&](auto part, int64_t i, int64_t lane) {
      auto run = [&](auto stored) {
        gradients<stored>(part, g ? g + i : nullptr, in + i, out ? out + i : nullptr, dout + i, channels, planes, lane,
                          gradient);
      };
      keeps && !planes.recomputed[lane / W] ? run(std::integral_constant<bool, FLOAT>()) : run(std::false_type());
    });
    layout.done(dz + at, kDz);
  };
  if (b.norm.training) {
    float *du = b.du + t.channel, *du_c = du + b.map.samples * b.map.channels;
    for (int64_t n = t.first; n < t.last; ++n) {
      first_pass(n);
      if (keeps) layout.done(dz + layout.offset(n, t.channel), kDz);
      copy_out(du + n * b.map.channels, s.du, t.channels), copy_out(du_c + n * b.map.channels, s.du_c, t.channels);
    }
    for_lanes(t.channels, [&](int64_t i) {
      bias[i] = totals[kBias][i] / count, weight[i] = totals[kWeight][i] / count * channels.rstd[i];
    });
    for (int64_t n = t.first; n < t.last; ++n) {
      copy_in(s.du, du + n * b.map.channels, t.channels), copy_in(s.du_c, du_c + n * b.map.channels, t.channels);
      second_pass(n, true);
    }
  } else {
    for (int64_t n = t.first; n < t.last; ++n) first_pass(n), second_pass(n, false);
  }
  int64_t chunks = (b.map.samples + blocks.samples - 1) / blocks.samples;
  for (int64_t i = 0; i < kTotals; ++i)
    std::copy(totals[i], totals[i] + t.channels, b.totals + (i * chunks + t.chunk) * b.map.channels + t.channel);
}

// f(T, Layout) with the type and the layout of the map, as null pointers.
template <class T, class F>
void with_layout(const Map &map, const F &f) {
  if (map.channels_last)
    f((T *)nullptr, (ChannelsLast<T> *)nullptr);
  else if (map.pixels <= SMALL)
    f((T *)nullptr, (Transposed<T> *)nullptr);
  else
    f((T *)nullptr, (Contiguous<T> *)nullptr);
}

template <class F>
void with_types(const Map &map, const F &f) {
  if (map.type == kFloat) with_layout<float>(map, f);
  if (map.type == kBFloat16) with_layout<c10::BFloat16>(map, f);
  if (map.type == kHalf) with_layout<c10::Half>(map, f);
}

void forward(const Forward &f, const Blocks &blocks, int64_t begin, int64_t end) {
  with_types(f.map, [&]<class T, class Layout>(T *, Layout *) {
    for (int64_t i = begin; i < end; ++i) forward_task<T, Layout>(f, Task(f.map, blocks, i));
  });
}

void slice_moments(const Forward &f, const Blocks &, int64_t begin, int64_t end) {
  with_types(f.map, [&]<class T, class Layout>(T *, Layout *) {
    for (int64_t i = begin; i < end; ++i) slice_moments_task<T>(f, i);
  });
}

void slice_gate(const Forward &f, const Blocks &, int64_t begin, int64_t end) {
  with_types(f.map, [&]<class T, class Layout>(T *, Layout *) {
    for (int64_t i = begin; i < end; ++i) slice_gate_task<T>(f, i);
  });
}

void backward(const Backward &b, const Blocks &blocks, int64_t begin, int64_t end) {
  with_types(b.map, [&]<class T, class Layout>(T *, Layout *) {
    for (int64_t i = begin; i < end; ++i) backward_task<T, Layout>(b, blocks, Task(b.map, blocks, i));
  });
}

}  // namespace

extern const Kernels EAN_KERNELS{EAN_KERNELS_NAME, W, forward, slice_moments, slice_gate, backward};

}  // namespace ean
