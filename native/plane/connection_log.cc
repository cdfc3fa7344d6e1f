// What a connection tells the transaction log of its volume: requests before the volume has them, so that the
// log never lacks what the volume has, and their replies.
#include "plane/connection.h"

namespace cellblock::plane {

// What is answered without the volume: nothing to do, or the end.
void Connection::log(const nbd::RequestHeader& header) {
  if (!served_.log || !served_.log->wants(header.type)) [[likely]]
    return;
  served_.log->request(header, nullptr);
  if (header.type != nbd::CommandType::disc) served_.log->reply(header.cookie, nbd::WireError::none);
  reactor_.write_log_soon(served_);
}

void Connection::log_request(Operation* operation) {
  operation->logged = served_.log->wants(operation->header.type);
  if (!operation->logged) return;
  served_.log->request(operation->header, operation->data);
  reactor_.write_log_soon(served_);
}

void Connection::log_reply(const Operation* operation) {
  if (!served_.log) return;  // switched off meanwhile
  served_.log->reply(operation->header.cookie, nbd::wire_error(operation->error));
  reactor_.write_log_soon(served_);
}

}  // namespace cellblock::plane
