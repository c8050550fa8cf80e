#include "models/weights/cuda/seeded_kernel.hpp"

#include <string>

#include "framework/base/check.hpp"
#include "framework/base/seeded_chunk.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/chunk_store.cuh"

namespace dovetail {
namespace {

constexpr int kThreads = 256;

/// One thread a chunk. The chunks at both ends may be shared with what lies before and behind.
template <class Element, int kOffset>
__global__ void __launch_bounds__(kThreads)
    seeded_kernel(SeededElements elements, ChunkedRun run, Element* values) {
  constexpr int places = kChunkPlaces<Element>;
  const std::int64_t chunk = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (chunk >= run.num_chunks) {
    return;
  }
  float made[places];
  seeded_chunk<places, kOffset>(elements.seed,
                                elements.parameter,
                                run.first_block + chunk * (places / 4),
                                elements.scale,
                                made);
  const std::int64_t element = first_element(run, chunk, places);
  if (is_full_chunk(run, element, places)) {
    store_chunk(values + element, made);
    return;
  }
#pragma unroll
  for (int place = 0; place < places; ++place) {
    if (element + place >= 0 && element + place < run.count) {
      values[element + place] = round_to<Element>(made[place]);
    }
  }
}

template <class Element, int kOffset>
void launch_at_offset(const SeededElements& elements,
                      const ChunkedRun& run,
                      Element* values,
                      cudaStream_t stream) {
  const std::int64_t blocks = (run.num_chunks + kThreads - 1) / kThreads;
  DOVETAIL_CHECK(blocks <= (std::int64_t{1} << 31) - 1, "seeded weights: the tensor is too large");
  seeded_kernel<Element, kOffset>
      <<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(elements, run, values);
  check_cuda(cudaGetLastError(), "launch of seeded weights");
}

template <class Element>
void launch_as(const SeededElements& elements, void* to, cudaStream_t stream) {
  auto* const values = static_cast<Element*>(to);
  const auto address = reinterpret_cast<std::uintptr_t>(to);
  DOVETAIL_CHECK(address % sizeof(Element) == 0, "seeded weights: the destination is not aligned");
  const ChunkedRun run = cut_into_chunks(elements.first, elements.count, address, sizeof(Element));
  switch (run.offset) {
    case 0:
      return launch_at_offset<Element, 0>(elements, run, values, stream);
    case 1:
      return launch_at_offset<Element, 1>(elements, run, values, stream);
    case 2:
      return launch_at_offset<Element, 2>(elements, run, values, stream);
    default:
      return launch_at_offset<Element, 3>(elements, run, values, stream);
  }
}

}  // namespace

void launch_seeded(const SeededElements& elements, DType dtype, void* values, cudaStream_t stream) {
  if (elements.count == 0) {
    return;
  }
  switch (dtype) {
    case DType::float32:
      return launch_as<float>(elements, values, stream);
    case DType::float16:
      return launch_as<__half>(elements, values, stream);
    case DType::bfloat16:
      return launch_as<__nv_bfloat16>(elements, values, stream);
    default:
      throw ContractError("seeded weights: no values of type " + std::string(to_string(dtype)));
  }
}

}  // namespace dovetail
