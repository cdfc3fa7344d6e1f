// The C++ test programs that have threads, under ThreadSanitizer.
import { runSanitized } from '../support/sanitized.js';

runSanitized('tsan');
