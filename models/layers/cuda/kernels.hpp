// Launchers of the kernels of the bfloat16 layers. They only enqueue on `stream`; sizes of the
// launch come from the arguments alone, so a captured launch can be replayed with other contents.
// Sizes of zero launch nothing. `bf16` data is passed as void pointers, 16-byte aligned, contiguous
// unless a stride (in elements) is given. Throw RunError where a launch fails.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail::gpu {

/// Largest size of a row of launch_rms_norm.
inline constexpr std::int64_t kMaxNormSize = 16384;

/// result[r] = bf16(bf16(x[r] * s) * weight), s = 1 / sqrt(mean(x[r]^2) + epsilon) in float. x and
/// result [rows, size]; size is a multiple of 8, at most kMaxNormSize.
void launch_rms_norm(void* result,
                     const void* x,
                     const void* weight,
                     float epsilon,
                     std::int64_t rows,
                     std::int64_t size,
                     cudaStream_t stream);

struct RotaryTableArguments {
  void* table = nullptr;                    ///< [2, tokens, num_frequencies]; written
  const std::int64_t* positions = nullptr;  ///< rows `position_stride` apart
  std::int64_t position_stride = 0;
  const std::int64_t* position_rows = nullptr;  ///< [num_frequencies]; null = row 0 for all
  const float* frequencies = nullptr;           ///< [num_frequencies]
  float scale = 1;
  std::int64_t tokens = 0;
  std::int64_t num_frequencies = 0;
};

/// Cosines and sines of position * frequency, times `scale`, rounded from float. Frequency f reads
/// row position_rows[f] of the positions.
void launch_rotary_table(const RotaryTableArguments& arguments, cudaStream_t stream);

struct QkvArguments {
  void* qkv = nullptr;           ///< [tokens, heads + 2 kv_heads, head_dim]; changed in place
  const void* q_norm = nullptr;  ///< [head_dim]; null = queries and keys are not normed
  const void* k_norm = nullptr;  ///< [head_dim], or null
  const void* rotary = nullptr;  ///< [2, tokens, rotary_dim / 2]
  const std::int64_t* slots = nullptr;  ///< [tokens]; < 0 = the cache keeps what it has
  void* keys = nullptr;                 ///< [slots, kv_heads, head_dim]
  void* values = nullptr;               ///< the same
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;    ///< a multiple of 8, at most 256
  std::int64_t rotary_dim = 0;  ///< the first elements of a head, which turn; a multiple of 8
  float epsilon = 0;
};

/// Norms (where there are norms) and turns queries and keys in place, and writes keys and values
/// into the cache. Rounds where rms_norm and rotate round.
void launch_qkv(const QkvArguments& arguments, cudaStream_t stream);

/// The segments as the device sees them; see SegmentTensors.
struct DeviceSegments {
  const std::int32_t* query_starts = nullptr;  ///< [count + 1]
  const std::int32_t* key_lengths = nullptr;   ///< [count]
  const std::int32_t* key_starts = nullptr;    ///< [count + 1]
  const std::int32_t* block_tables = nullptr;  ///< [count, table_stride]
  std::int64_t table_stride = 0;
  std::int64_t count = 0;
};

struct PagedKeys {
  const void* keys = nullptr;  ///< [pages, page_size, kv_heads, head_dim]
  const void* values = nullptr;
  std::int64_t page_size = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
};

/// What decides how many keys of a segment a split takes: the number of splits of the launch, or
/// the segment's own number of keys alone, so that its bits are the same in every batch.
enum class DecodeSplit { launch, length };

struct DecodeArguments {
  const void* queries = nullptr;  ///< [tokens, heads, head_dim], rows query_stride apart
  std::int64_t query_stride = 0;
  void* result = nullptr;  ///< [tokens, heads, head_dim] contiguous
  std::int64_t tokens = 0;
  std::int64_t heads = 0;  ///< a multiple of kv_heads
  PagedKeys cache;         ///< pages * page_size < 2^31; head_dim a multiple of 8, at most 256
  DeviceSegments segments;
  float scale = 0;  ///< of the scores
  DecodeSplit split_by = DecodeSplit::launch;
  int splits = 1;  ///< for `length`: at least decode_splits_by_length of the longest segment
  /// For more than one split: decode_partial_floats(...) floats.
  float* partial = nullptr;
};

std::int64_t decode_partial_floats(const DecodeArguments& arguments);

/// Number of parts into which the keys of a segment are cut, so that a device with `num_sms` is
/// filled; from bounds only.
int decode_splits(std::int64_t segments,
                  std::int64_t kv_heads,
                  std::int64_t group,
                  std::int64_t max_key_length,
                  int num_sms);

/// The parts that DecodeSplit::length cuts a segment of at most `max_key_length` keys into: at
/// least 256 keys each, at most 32.
int decode_splits_by_length(std::int64_t max_key_length);

/// Attention of segments with at most one query, its last key's. Row query_starts[s] of segment s;
/// rows from query_starts[count] on are set to zero. Scores, sums and results are kept in float;
/// shares are rounded to bf16 before they meet the values, results once at the end.
void launch_decode_attention(const DecodeArguments& arguments, cudaStream_t stream);

/// Dims of a value of launch_prefill_attention.
inline constexpr std::int64_t kPrefillValueDim = 128;

/// Whether launch_prefill_attention takes heads of these sizes: 128, 0 or 64, and 128.
bool prefill_attention_takes(std::int64_t key_dim,
                             std::int64_t shared_key_dim,
                             std::int64_t value_dim);

/// Rows of heads, neighbours along a head's dims; strides in elements, multiples of 8.
struct AttentionRows {
  const void* data = nullptr;  ///< [rows, heads, dims]
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
};

struct PrefillArguments {
  AttentionRows queries;      ///< [tokens, heads, 128 (+ 64)]
  AttentionRows keys;         ///< [keys, kv_heads, 128]
  AttentionRows shared_keys;  ///< [keys, 64]: further dims of every head's key; data null = none
  AttentionRows values;       ///< [keys, kv_heads, kPrefillValueDim]
  void* result = nullptr;     ///< [tokens, heads, kPrefillValueDim], contiguous
  std::int64_t heads = 0;     ///< a multiple of kv_heads
  std::int64_t kv_heads = 0;
  const std::int32_t* query_starts = nullptr;  ///< [segments + 1]
  const std::int32_t* key_starts = nullptr;    ///< [segments + 1]
  std::int64_t segments = 0;
  std::int64_t max_query_length = 0;
  float scale = 0;  ///< of the scores
};

/// softmax(scale * q k^T) v of each query over the keys of its segment up to itself, where a
/// segment's last query is its last key's. Rows outside of all segments are left alone. Scores,
/// sums and results are kept in float; shares are rounded to bf16 before they meet the values,
/// results once at the end. A row has the same bits in any batch, and however its request is cut.
void launch_prefill_attention(const PrefillArguments& arguments, cudaStream_t stream);

/// Values of a latent that attention sums, and of a latent key: those and the turned ones.
inline constexpr std::int64_t kLatentValueDim = 512;
inline constexpr std::int64_t kLatentKeyDim = 576;

struct LatentRowsArguments {
  const void* compressed = nullptr;    ///< [tokens, kLatentKeyDim]: latent, rotary dims of the key
  std::int64_t compressed_stride = 0;  ///< of its rows, in elements; a multiple of 8
  const void* norm = nullptr;          ///< [kLatentValueDim]
  float epsilon = 0;
  const void* rotary = nullptr;         ///< [2, tokens, 32]
  bool interleaved = false;             ///< neighbours turn together, else dims i and i + 32
  const std::int64_t* slots = nullptr;  ///< [tokens]; < 0 = the cache keeps what it has
  void* query_rope = nullptr;           ///< [tokens, heads, 64], rotary dims; changed in place
  std::int64_t query_token_stride = 0;
  std::int64_t query_head_stride = 0;
  void* latents = nullptr;    ///< [tokens, kLatentValueDim]: the normed latents, or null
  void* rope_keys = nullptr;  ///< [tokens, 64]: the turned rotary dims of the keys, or null
  void* cache = nullptr;      ///< [slots, kLatentKeyDim]
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
};

/// Norms the latents, turns the rotary dims of keys and queries, and writes keys to their slots and
/// to `latents` and `rope_keys`. Dims that turned together lie 32 apart afterwards. Rounds where
/// rms_norm and rotate round.
void launch_latent_rows(const LatentRowsArguments& arguments, cudaStream_t stream);

/// Copies the keys of all segments, one after another, out of their pages: key p of segment s to
/// row key_starts[s] + p of latents [>= all keys, kLatentValueDim] and rope_keys [.., 64]. Rows
/// behind are left alone. cache [pages, page_size, kLatentKeyDim].
void launch_gather_latents(void* latents,
                           void* rope_keys,
                           const void* cache,
                           std::int64_t page_size,
                           const DeviceSegments& segments,
                           std::int64_t max_key_length,
                           cudaStream_t stream);

/// Absorbed queries in two tensors, neighbours along the last dimension; strides in elements,
/// multiples of 8.
struct LatentQueries {
  const void* latent = nullptr;  ///< [tokens, heads, kLatentValueDim]: times the first dims
  std::int64_t latent_token_stride = 0;
  std::int64_t latent_head_stride = 0;
  const void* rope = nullptr;  ///< [tokens, heads, kLatentKeyDim - kLatentValueDim]: the others
  std::int64_t rope_token_stride = 0;
  std::int64_t rope_head_stride = 0;
};

struct LatentDecodeArguments {
  LatentQueries queries;
  void* result =
      nullptr;  ///< [tokens, heads, kLatentValueDim], neighbours along the last dimension
  std::int64_t result_token_stride = 0;  ///< multiples of 8
  std::int64_t result_head_stride = 0;
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  const void* latents = nullptr;  ///< [pages, page_size, kLatentKeyDim]; pages * page_size < 2^31
  std::int64_t page_size = 0;
  DeviceSegments segments;
  float scale = 0;  ///< of the scores
  DecodeSplit split_by = DecodeSplit::launch;
  int splits = 1;  ///< for `length`: at least decode_splits_by_length of the longest segment
  /// That blocks may fill, which stay and walk over their work; the bits do not depend on it.
  /// (Pages whose size neither divides 64 nor is a multiple of it, or is below 8: a block for each
  /// part.)
  int num_sms = 0;
  /// For more than one split: latent_decode_partial_floats(...) floats.
  float* partial = nullptr;
};

std::int64_t latent_decode_partial_floats(const LatentDecodeArguments& arguments);

/// Number of parts into which the keys of a segment are cut, so that a device with `num_sms` is
/// filled with few of its blocks waiting for others; from bounds only.
int latent_decode_splits(std::int64_t segments,
                         std::int64_t heads,
                         std::int64_t max_key_length,
                         int num_sms);

/// Attention over latents (multi-head latent attention, absorbed) of segments with at most one
/// query, its last key's: each head's softmax(scale * q k^T) over the keys of its request, times
/// the first kLatentValueDim dims of the same keys. Row query_starts[s] of segment s; rows from
/// query_starts[count] on are set to zero. Scores, sums and results are kept in float; shares are
/// rounded to bf16 before they meet the values, results once at the end.
void launch_latent_decode(const LatentDecodeArguments& arguments, cudaStream_t stream);

/// Copies the keys and values of all segments, one after another, out of their pages: key p of
/// segment s to row key_starts[s] + p of keys and values [>= all keys, kv_heads, head_dim]. Rows
/// behind are left alone.
void launch_gather_keys(void* keys,
                        void* values,
                        const PagedKeys& cache,
                        const DeviceSegments& segments,
                        std::int64_t max_key_length,
                        cudaStream_t stream);

/// Rows [*end, rows) of x [rows, size] = 0; size is a multiple of 8.
void launch_zero_rows(
    void* x, const std::int32_t* end, std::int64_t rows, std::int64_t size, cudaStream_t stream);

/// Limits of launch_router.
inline constexpr std::int64_t kMaxRoutedExperts = 1024;
inline constexpr std::int64_t kMaxRoutedChoices = 32;
inline constexpr std::int64_t kMaxRoutedGroups = 32;

struct RouterArguments {
  const void* logits = nullptr;  ///< [tokens, experts] bf16 or float
  bool has_float32_logits = false;
  const std::int64_t* slots = nullptr;     ///< [tokens]; < 0 = padding: ids -1
  const std::int64_t* replayed = nullptr;  ///< [tokens, k], or null = choose
  std::int64_t* expert_ids = nullptr;      ///< [tokens, k]
  float* weights = nullptr;                ///< [tokens, k]
  std::int64_t* natural_ids = nullptr;     ///< [tokens, k], written where `replayed` is given
  std::int64_t tokens = 0;
  std::int64_t experts = 0;
  std::int64_t k = 0;
  bool normalize = false;
  float scale = 1;  ///< of the weights
  // Experts may be chosen by sigmoid scores in place of logits:
  bool sigmoid = false;
  const float* bias = nullptr;  ///< [experts] of the scores that choose, or null
  float* scores = nullptr;      ///< [tokens, experts]: those scores; written
  // A token's experts are of its best groups:
  std::int64_t num_groups = 1;  ///< divides experts; at most kMaxRoutedGroups
  std::int64_t num_chosen_groups = 1;
  bool group_sum_of_two =
      false;  ///< a group's score is that of its two best experts, else its best
};

/// Choices and weights as route_top_k and route_replayed have them; NaN counts as the largest
/// score of an expert.
void launch_router(const RouterArguments& arguments, cudaStream_t stream);

/// Blocks of launch_swiglu that an SM holds at once.
inline constexpr std::int64_t kSwigluBlocksOfSm = 8;

/// result [rows, size] = bf16(bf16(silu(gate)) * up) of gate_up [rows, 2 size]; size is a multiple
/// of 8. With `end` not null (device memory), rows from *end on are neither read nor written.
/// Its blocks walk on where there are more rows than `most_blocks` have.
void launch_swiglu(void* result,
                   const void* gate_up,
                   const std::int32_t* end,
                   std::int64_t rows,
                   std::int64_t size,
                   std::int64_t most_blocks,
                   cudaStream_t stream);

}  // namespace dovetail::gpu
