#include "framework/step/cuda/kv_cache_fill.hpp"

#include <string>

#include "framework/base/check.hpp"
#include "framework/base/seeded_chunk.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/chunk_store.cuh"

namespace dovetail {
namespace {

constexpr int kThreads = 256;

struct Place {
  std::int64_t slot;
  std::int64_t position;
  std::uint64_t stream;
};

__device__ Place place_of(const ContextTokens& tokens,
                          const std::int64_t* streams,
                          std::int64_t token) {
  const std::int64_t* const words = tokens.tokens + token * kContextTokenWords;
  return {words[0], words[1], static_cast<std::uint64_t>(streams[words[2]])};
}

/// One thread a chunk of a row. Needs rows of whole chunks at aligned addresses: then each chunk
/// begins with the first value of a block, too.
template <class Element>
__global__ void __launch_bounds__(kThreads) fill_chunks_kernel(ContextTokens tokens,
                                                               const std::int64_t* streams,
                                                               std::uint64_t seed,
                                                               SeededScale scale,
                                                               Element* rows) {
  constexpr int places = kChunkPlaces<Element>;
  const std::int64_t chunks_per_row = tokens.row_elements / places;
  const std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t token = index / chunks_per_row;
  if (token >= tokens.num_tokens) {
    return;
  }
  const std::int64_t element = index % chunks_per_row * places;
  const Place place = place_of(tokens, streams, token);
  float values[places];
  seeded_chunk<places, 0>(
      seed, place.stream, (place.position * tokens.row_elements + element) / 4, scale, values);
  store_chunk(rows + place.slot * tokens.row_elements + element, values);
}

/// One thread an element, for all other rows.
template <class Element>
__global__ void __launch_bounds__(kThreads) fill_elements_kernel(ContextTokens tokens,
                                                                 const std::int64_t* streams,
                                                                 std::uint64_t seed,
                                                                 SeededScale scale,
                                                                 Element* rows) {
  const std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t token = index / tokens.row_elements;
  if (token >= tokens.num_tokens) {
    return;
  }
  const std::int64_t element = index % tokens.row_elements;
  const Place place = place_of(tokens, streams, token);
  const float value =
      seeded_value_at(seed, place.stream, place.position * tokens.row_elements + element, scale);
  rows[place.slot * tokens.row_elements + element] = round_to<Element>(value);
}

unsigned num_blocks(std::int64_t threads) {
  const std::int64_t blocks = (threads + kThreads - 1) / kThreads;
  DOVETAIL_CHECK(blocks <= (std::int64_t{1} << 31) - 1, "random context: too many tokens");
  return static_cast<unsigned>(blocks);
}

template <class Element>
void launch_as(const ContextTokens& tokens,
               const ContextTensor& tensor,
               std::uint64_t seed,
               const SeededScale& scale,
               cudaStream_t stream) {
  constexpr std::int64_t places = kChunkPlaces<Element>;
  auto* const rows = static_cast<Element*>(tensor.rows);
  const bool in_chunks = tokens.row_elements % places == 0 &&
                         reinterpret_cast<std::uintptr_t>(tensor.rows) % kChunkStoreBytes == 0;
  if (in_chunks) {
    const std::int64_t threads = tokens.num_tokens * (tokens.row_elements / places);
    fill_chunks_kernel<<<num_blocks(threads), kThreads, 0, stream>>>(
        tokens, tensor.streams, seed, scale, rows);
  } else {
    const std::int64_t threads = tokens.num_tokens * tokens.row_elements;
    fill_elements_kernel<<<num_blocks(threads), kThreads, 0, stream>>>(
        tokens, tensor.streams, seed, scale, rows);
  }
  check_cuda(cudaGetLastError(), "launch of the random context");
}

}  // namespace

void launch_fill_context(const ContextTokens& tokens,
                         const ContextTensor& tensor,
                         std::uint64_t seed,
                         const SeededScale& scale,
                         cudaStream_t stream) {
  if (tokens.num_tokens == 0 || tokens.row_elements == 0) {
    return;
  }
  switch (tensor.dtype) {
    case DType::float32:
      return launch_as<float>(tokens, tensor, seed, scale, stream);
    case DType::float16:
      return launch_as<__half>(tokens, tensor, seed, scale, stream);
    case DType::bfloat16:
      return launch_as<__nv_bfloat16>(tokens, tensor, seed, scale, stream);
    default:
      throw ContractError("random context: no values of type " +
                          std::string(to_string(tensor.dtype)));
  }
}

}  // namespace dovetail
