// The gate as operators of PyTorch, by its stable interface for C++ (PyTorch 2.10), so that a library which was built
// with one PyTorch serves later ones too. They look at what they are given: None is the answer to tensors that the
// kernels can't take as they lie, and to wrong ones; operator.py then says what is wrong, or lays them out.
//
// Schemas have no optional tensors: PyTorch hands None on as an undefined tensor, and back, in half the time.
#include "gate.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>

#include <initializer_list>
#include <memory>
#include <utility>

extern "C" int32_t ean_forward(const ean::ForwardCall *);
extern "C" int32_t ean_backward(const ean::BackwardCall *);

namespace ean {
namespace {

void check(int32_t error) { TORCH_ERROR_CODE_CHECK(error); }

// A tensor that this function owns, or none.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(AtenTensorHandle handle) : handle_(handle) {
    bool defined;
    check(aoti_torch_is_defined(handle, &defined));
    if (!defined) *this = Tensor();
  }
  Tensor(Tensor &&other) : handle_(std::exchange(other.handle_, nullptr)) {}
  Tensor &operator=(Tensor &&other) {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Tensor() {
    if (handle_) aoti_torch_delete_tensor_object(handle_);
  }
  explicit operator bool() const { return handle_; }

  // The same memory once more.
  Tensor again() const {
    AtenTensorHandle handle;
    check(aoti_torch_new_tensor_handle(handle_, &handle));
    return Tensor(handle);
  }
  AtenTensorHandle get() const { return handle_; }
  AtenTensorHandle release() {
    AtenTensorHandle handle = std::exchange(handle_, nullptr);
    if (!handle) check(aoti_torch_new_uninitialized_tensor(&handle));
    return handle;
  }

  int64_t dim() const { return get<int64_t>(aoti_torch_get_dim); }
  int64_t numel() const { return get<int64_t>(aoti_torch_get_numel); }
  const int64_t *sizes() const { return get<int64_t *>(aoti_torch_get_sizes); }
  const int64_t *strides() const { return get<int64_t *>(aoti_torch_get_strides); }
  int32_t type() const { return get<int32_t>(aoti_torch_get_dtype); }
  bool is_cpu() const { return get<int32_t>(aoti_torch_get_device_type) == aoti_torch_device_type_cpu(); }
  template <class T = float>
  T *data() const {
    return handle_ ? static_cast<T *>(get<void *>(aoti_torch_get_data_ptr)) : nullptr;
  }

 private:
  AtenTensorHandle handle_ = nullptr;

  template <class T>
  T get(AOTITorchError (*function)(AtenTensorHandle, T *)) const {
    T value;
    check(function(handle_, &value));
    return value;
  }
};

Tensor empty(int64_t dim, const int64_t *sizes, const int64_t *strides, int32_t type) {
  AtenTensorHandle handle;
  check(aoti_torch_empty_strided(dim, sizes, strides, type, aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Tensor empty_like(const Tensor &t) { return t ? empty(t.dim(), t.sizes(), t.strides(), t.type()) : Tensor(); }

Tensor empty_floats(std::initializer_list<int64_t> sizes) {
  int64_t strides[3], stride = 1;
  for (int64_t i = sizes.size(); i-- > 0;) strides[i] = stride, stride *= sizes.begin()[i];
  return empty(sizes.size(), sizes.begin(), strides, aoti_torch_dtype_float32());
}

// Whether a map lies without gaps, its dimensions from the fastest to the slowest in this order.
bool lies(const Tensor &map, const int (&order)[4]) {
  const int64_t *sizes = map.sizes(), *strides = map.strides();
  int64_t expected = 1;
  for (int dimension : order) {
    if (sizes[dimension] == 1) continue;
    if (strides[dimension] != expected) return false;
    expected *= sizes[dimension];
  }
  return true;
}
constexpr int CONTIGUOUS[] = {3, 2, 1, 0}, CHANNELS_LAST[] = {1, 3, 2, 0};

bool is_vector(const Tensor &t, int64_t size) {
  return !t || (t.numel() == size && t.dim() == 1 && t.is_cpu() && t.type() == aoti_torch_dtype_float32() &&
                (size == 1 || t.strides()[0] == 1));
}

// The arguments that both operators have, in this order. Mean and variance are running ones, the batch's or none.
struct Shared {
  Tensor z, weight, bias, alpha, delta;
  int64_t weight_norm;
  double eps;
  Tensor norm_weight, norm_bias, norm_mean, norm_var;
  double norm_eps;
  bool training;

  // The same as pointers, and how z lies; false where the kernels can't take it.
  Call call;
  const int (*order)[4];
  bool prepare();
  // Whether another map is of the shape, the type and the layout of z, or none.
  bool goes_with(const Tensor &map) const;
};

bool Shared::prepare() {
  if (!z || z.dim() != 4 || !z.is_cpu() || !alpha || !delta || !weight != !bias || !norm_mean != !norm_var) return false;
  const int32_t type = z.type();
  const int64_t code = type == aoti_torch_dtype_float32()    ? kFloat
                       : type == aoti_torch_dtype_bfloat16() ? kBFloat16
                       : type == aoti_torch_dtype_float16()  ? kHalf
                                                             : -1;
  const int64_t *sizes = z.sizes();
  const int64_t channels = sizes[1], pixels = sizes[2] * sizes[3], size = alpha.numel();
  const bool contiguous = lies(z, CONTIGUOUS);
  if (code < 0 || !(contiguous || lies(z, CHANNELS_LAST)) || sizes[0] * channels * pixels == 0 || !size ||
      channels % size || weight_norm < 0)
    return false;
  if (training ? sizes[0] * pixels == 1 : !norm_mean && (norm_weight || norm_bias)) return false;
  for (const Tensor *vector : {&weight, &bias, &alpha, &delta})
    if (!is_vector(*vector, size)) return false;
  for (const Tensor *vector : {&norm_weight, &norm_bias, &norm_mean, &norm_var})
    if (!is_vector(*vector, channels)) return false;
  // A map of one pixel is both; its channels fill vectors, its pixels don't.
  const bool channels_last = pixels == 1 || !contiguous;
  call = {code, sizes[0], channels, pixels, channels_last, weight.data(), bias.data(), alpha.data(), delta.data(), size,
          weight_norm, eps, norm_weight.data(), norm_bias.data(), norm_mean.data(), norm_var.data(), norm_eps, training};
  order = contiguous ? &CONTIGUOUS : &CHANNELS_LAST;
  return true;
}

bool Shared::goes_with(const Tensor &map) const {
  if (!map) return true;
  if (map.dim() != 4 || !map.is_cpu() || map.type() != z.type()) return false;
  for (int i = 0; i < 4; ++i)
    if (map.sizes()[i] != z.sizes()[i]) return false;
  return lies(map, *order);
}

// What PyTorch hands over and gets back: the arguments, and the results in their place.
class Stack {
 public:
  explicit Stack(StableIValue *values) : values_(values) {}
  Tensor tensor() { return Tensor(get<AtenTensorHandle>()); }
  Tensor optional() {  // of a schema with `Tensor?`
    std::unique_ptr<StableIValue> value(get<StableIValue *>());
    return value ? Tensor(torch::stable::detail::to<AtenTensorHandle>(*value)) : Tensor();
  }
  template <class T>
  T get() {
    return torch::stable::detail::to<T>(values_[taken_++]);
  }
  Shared shared() {  // braces: one after the other
    return {tensor(), tensor(), tensor(), tensor(), tensor(), get<int64_t>(), get<double>(), tensor(), tensor(), tensor(),
            tensor(), get<double>(), get<bool>()};
  }
  template <class... Tensors>
  void put(Tensors &&...tensors) {
    int64_t i = 0;
    ((values_[i++] = torch::stable::detail::from(tensors.release())), ...);
  }

 private:
  StableIValue *values_;
  int64_t taken_ = 0;
};

// Running statistics, as a batch norm takes the batch's into them.
void update(const Call &call, const float *batch, float *mean, float *var, double momentum) {
  const double count = double(call.samples) * call.pixels;
  const float share = momentum, rest = 1 - momentum, unbiased = momentum * count / (count - 1);
  for (int64_t i = 0; i < call.channels; ++i) {
    mean[i] += share * (batch[i] - mean[i]);
    var[i] = var[i] * rest + batch[call.channels + i] * unbiased;
  }
}

bool overlap(const Tensor &one, const Tensor &other, int64_t bytes) {
  const char *a = one.data<char>(), *b = other.data<char>();
  return a < b + bytes && b < a + bytes;
}

// The gated map, which is z where it may be; each plane's moments where they are wanted (`keep`) and worth it; and the
// batch's in training, where norm_mean and norm_var are the running ones, or none, and get their share.
constexpr char FORWARD[] =
    "cpp_gate(Tensor z, Tensor weight, Tensor bias, Tensor alpha, Tensor delta, int weight_norm, float eps, Tensor "
    "norm_weight, Tensor norm_bias, Tensor norm_mean, Tensor norm_var, float norm_eps, bool training, float momentum, "
    "Tensor residual, bool relu, bool inplace, bool keep) -> (Tensor, Tensor, Tensor)";

void forward(StableIValue *values, uint64_t, uint64_t) {
  Stack stack(values);
  Shared s = stack.shared();
  const double momentum = stack.get<double>();
  const Tensor residual = stack.tensor();
  const bool relu = stack.get<bool>(), inplace = stack.get<bool>(), keep = stack.get<bool>();
  if (!s.prepare() || !s.goes_with(residual)) return stack.put(Tensor(), Tensor(), Tensor());
  Call &call = s.call;
  const int64_t planes = call.samples * call.channels, bytes = planes * call.pixels * (call.type == kFloat ? 4 : 2);
  const bool over = inplace && !call.training && !(residual && overlap(residual, s.z, bytes));
  Tensor y = over ? s.z.again() : empty_like(s.z), batch;
  const bool kept = keep && call.pixels > TAKEN_AGAIN;
  Tensor moments = kept ? empty_floats({2, call.samples, call.channels}) : Tensor();
  std::unique_ptr<float[]> scratch(kept || call.pixels == 1 ? nullptr : new float[2 * planes]);
  if (call.training) {
    batch = empty_floats({2, call.channels});
    call.norm_mean = batch.data(), call.norm_var = batch.data() + call.channels;
  }
  const ForwardCall f{call, s.z.data<void>(), residual.data<void>(), relu, y.data<void>(), kept ? moments.data() : scratch.get()};
  check(ean_forward(&f));
  if (call.training && s.norm_mean) update(call, batch.data(), s.norm_mean.data(), s.norm_var.data(), momentum);
  stack.put(y, moments, batch);
}

// A copy that lies in an order; the tensor itself, where it does.
Tensor laid_out(Tensor map, const int (&order)[4]) {
  if (!map || lies(map, order)) return map;
  int64_t strides[4], stride = 1;
  for (int dimension : order) strides[dimension] = stride, stride *= map.sizes()[dimension];
  Tensor copy = empty(4, map.sizes(), strides, map.type());
  check(aoti_torch_copy_(copy.get(), map.get(), 0));
  return copy;
}

// For graphs of compilers, which want a schema as usual, and have looked at types and shapes: the map gated, of a batch norm
// in evaluation mode or none.
constexpr char INFERENCE[] =
    "cpp_gate_inference(Tensor z, Tensor? weight, Tensor? bias, Tensor alpha, Tensor delta, int weight_norm, float eps, "
    "Tensor? norm_weight, Tensor? norm_bias, Tensor? norm_mean, Tensor? norm_var, float norm_eps, Tensor? residual, bool "
    "relu) -> Tensor";

void inference(StableIValue *values, uint64_t, uint64_t) {
  Stack stack(values);
  Tensor z = stack.tensor();
  const int64_t *strides = z.strides();
  const auto &order = 0 < strides[1] && strides[1] < strides[3] ? CHANNELS_LAST : CONTIGUOUS;
  Shared s{laid_out(std::move(z), order), stack.optional(), stack.optional(), stack.tensor(), stack.tensor(),
           stack.get<int64_t>(), stack.get<double>(), stack.optional(), stack.optional(), stack.optional(),
           stack.optional(), stack.get<double>(), false};
  Tensor residual = laid_out(stack.optional(), order);
  const bool relu = stack.get<bool>();
  STD_TORCH_CHECK(s.prepare() && s.goes_with(residual), "ean_mmdet::cpp_gate_inference: arguments of other types or shapes "
                  "than it was compiled for");
  Tensor y = empty_like(s.z);
  std::unique_ptr<float[]> scratch(new float[2 * s.call.samples * s.call.channels]);
  const ForwardCall f{s.call, s.z.data<void>(), residual.data<void>(), relu, y.data<void>(), scratch.get()};
  check(ean_forward(&f));
  stack.put(y);
}

// The gradients of z, of the four vectors and of the norm's weight and bias, shape (2, C); writes the residual's where
// that is wanted. In training norm_mean and norm_var are the batch's.
constexpr char BACKWARD[] =
    "cpp_gate_backward(Tensor z, Tensor weight, Tensor bias, Tensor alpha, Tensor delta, int weight_norm, float eps, "
    "Tensor norm_weight, Tensor norm_bias, Tensor norm_mean, Tensor norm_var, float norm_eps, bool training, Tensor grad, "
    "Tensor y, Tensor moments, Tensor dresidual) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)";

void backward(StableIValue *values, uint64_t, uint64_t) {
  Stack stack(values);
  Shared s = stack.shared();
  const Tensor grad = stack.tensor(), y = stack.tensor(), moments = stack.tensor(), dresidual = stack.tensor();
  if (!s.prepare() || !s.goes_with(grad) || !s.goes_with(y) || !s.goes_with(dresidual))
    return stack.put(Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor());
  Tensor dz = empty_like(s.z), dweight = empty_like(s.weight), dbias = empty_like(s.bias), dalpha = empty_like(s.alpha),
         ddelta = empty_like(s.delta), dnorm = s.norm_mean ? empty_floats({2, s.call.channels}) : Tensor();
  const float *kept = s.call.pixels > TAKEN_AGAIN ? moments.data() : nullptr;
  const BackwardCall b{s.call, grad.data<void>(), s.z.data<void>(), y.data<void>(), kept, dz.data<void>(),
                       dresidual.data<void>(), dweight.data(), dbias.data(), dalpha.data(), ddelta.data(), dnorm.data()};
  check(ean_backward(&b));
  stack.put(dz, dweight, dbias, dalpha, ddelta, dnorm);
}

}  // namespace
}  // namespace ean

// Called once, by norm_gate_cpp.py: a second copy of the library in a process fails here, and not while it is loaded.
extern "C" __attribute__((visibility("default"))) int32_t ean_register() {
  using torch::stable::detail::StableLibrary;
  static std::unique_ptr<StableLibrary> definitions, kernels;
  try {
    definitions = std::make_unique<StableLibrary>(StableLibrary::Kind::FRAGMENT, "ean_mmdet", nullptr, __FILE__, __LINE__);
    definitions->def(ean::FORWARD).def(ean::BACKWARD).def(ean::INFERENCE);
    // Whatever device a vector is on by mistake, this is asked.
    kernels = std::make_unique<StableLibrary>(StableLibrary::Kind::IMPL, "ean_mmdet", "CompositeExplicitAutograd", __FILE__, __LINE__);
    kernels->impl("cpp_gate", ean::forward).impl("cpp_gate_backward", ean::backward);
    kernels->impl("cpp_gate_inference", ean::inference);
  } catch (const std::exception &) {
    return 1;
  }
  return 0;
}
