// The one place where kinds of errors become HTTP statuses.

import type { ErrorKind } from '../base/errors.js';

export const HTTP_STATUS: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  'not-found': 404,
  exists: 409,
  'in-use': 409,
  busy: 503,
  refused: 409,
  'no-space': 507,
  io: 500,
  corrupt: 500,
  version: 500,
  cancelled: 409,
  internal: 500,
};
