#include "framework/mpi/agree.hpp"

#include <cstring>
#include <memory>
#include <type_traits>

#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

static_assert(std::is_trivially_copyable_v<AgreementMessage>);
static_assert(sizeof(AgreementMessage) % sizeof(std::int64_t) == 0);

// Called by MPI with `length` whole messages of each side.
void reduce_messages(void* in, void* in_out, int* length, MPI_Datatype* /*type*/) noexcept {
  for (int i = 0; i < *length; ++i) {
    const std::size_t offset = static_cast<std::size_t>(i) * sizeof(AgreementMessage);
    auto* target = static_cast<char*>(in_out) + offset;
    AgreementMessage a;
    AgreementMessage b;
    std::memcpy(&a, static_cast<char*>(in) + offset, sizeof a);
    std::memcpy(&b, target, sizeof b);
    const AgreementMessage both = reduce(a, b);
    std::memcpy(target, &both, sizeof both);
  }
}

// One message as one element, so that MPI never cuts one in two.
class MessageType {
 public:
  MessageType() {
    DOVETAIL_MPI(
        MPI_Type_contiguous(sizeof(AgreementMessage) / sizeof(std::int64_t), MPI_INT64_T, &type_));
    DOVETAIL_MPI(MPI_Type_commit(&type_));
  }

  ~MessageType() { MPI_Type_free(&type_); }

  MessageType(const MessageType&) = delete;
  MessageType& operator=(const MessageType&) = delete;
  MessageType(MessageType&&) = delete;
  MessageType& operator=(MessageType&&) = delete;

  MPI_Datatype raw() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

class MessageOp {
 public:
  MessageOp() { DOVETAIL_MPI(MPI_Op_create(reduce_messages, /*commute=*/1, &op_)); }

  ~MessageOp() { MPI_Op_free(&op_); }

  MessageOp(const MessageOp&) = delete;
  MessageOp& operator=(const MessageOp&) = delete;
  MessageOp(MessageOp&&) = delete;
  MessageOp& operator=(MessageOp&&) = delete;

  MPI_Op raw() const { return op_; }

 private:
  MPI_Op op_ = MPI_OP_NULL;
};

}  // namespace

AgreementMessage agree(const MpiComm& comm,
                       const AgreementMessage& local,
                       const WaitPolicy& policy) {
  struct Call {
    MessageType type;
    MessageOp op;
    AgreementMessage message;
  };

  require_may_communicate("agreement of the ranks on a step");
  auto call = std::make_unique<Call>();
  call->message = local;
  MPI_Request request = MPI_REQUEST_NULL;
  DOVETAIL_MPI(MPI_Iallreduce(
      MPI_IN_PLACE, &call->message, 1, call->type.raw(), call->op.raw(), comm.raw(), &request));
  wait_owning(call, request, policy, "agreement of the ranks on a step");
  return call->message;
}

}  // namespace dovetail
