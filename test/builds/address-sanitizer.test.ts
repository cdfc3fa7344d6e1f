// The C++ test programs under AddressSanitizer with UndefinedBehaviorSanitizer.
import { runSanitized } from '../support/sanitized.js';

runSanitized('asan');
