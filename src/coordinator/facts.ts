// What a host says of its volumes in a hello and in events.

import type { Hello } from '../protocol/messages.js';

export type VolumeFacts = Hello['volumes'][number];
