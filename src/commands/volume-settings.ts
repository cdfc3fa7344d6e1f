// What is set of a volume on the command line: options of `volume create` and `volume set`, and the rows of `volume show`.

import type { Command } from 'commander';
import type { Volume, VolumeDetails } from '../agent/api-schema.js';
import { CellblockError } from '../base/errors.js';
import { parseSize } from '../model/sizes.js';
import { formatBytes } from './format.js';
import { printable } from './table.js';

export interface LimitOptions {
  iops?: string;
  iopsBurst?: string;
  bandwidth?: string;
  bandwidthBurst?: string;
}

export interface SettingOptions extends LimitOptions {
  /** False: --no-limits. */
  limits?: false;
  /** False: --no-transaction-log. */
  transactionLog?: string | false;
  logData?: boolean;
}

export function addLimitOptions(command: Command): Command {
  return command
    .option('--iops <count>', 'at most so many requests a second, of all clients together')
    .option('--iops-burst <count>', 'so many at once after a pause')
    .option('--bandwidth <size>', 'at most so many bytes a second of reads and writes, such as 100M')
    .option('--bandwidth-burst <size>', 'so many at once after a pause');
}

export function addSettingOptions(command: Command): void {
  addLimitOptions(command)
    .option('--no-limits', 'take the limits off')
    .option('--transaction-log <file>', "log what clients ask, in nbd-server's format")
    .option('--log-data', 'with the data of writes, so that it can be played back')
    .option('--no-transaction-log', 'end the log; the file stays');
}

/** What was given, without the defaults commander makes of options that begin with --no. */
export function givenOf<Options extends object>(command: Command): Options {
  const entries = Object.entries(command.opts()).filter(
    ([name]) => command.getOptionValueSource(name) === 'cli',
  );
  return Object.fromEntries(entries) as Options;
}

/** As the API takes it; empty: nothing of it is given. */
export function settingsBody(options: SettingOptions): object {
  return { ...limitChange(options), ...logChange(options) };
}

export function settingLines(volume: Volume): string {
  return settingFacts(volume)
    .map(([what, value]) => `${what} of ${printable(volume.name)}: ${value}\n`)
    .join('');
}

/** All limits are set at once: what is not given is none. */
function limitChange(options: SettingOptions): { limits?: object | null } {
  const limits = limitsBody(options);
  if (options.limits !== false) return limits === undefined ? {} : { limits };
  if (limits === undefined) return { limits: null };
  throw new CellblockError('option-invalid', "The option '--no-limits' goes with no other limit.", {
    hint: 'A new limit takes the place of the old ones.',
  });
}

/** As the API takes it; undefined: no limit is given. */
export function limitsBody(options: LimitOptions): object | undefined {
  const body = {
    ...(options.iops === undefined ? {} : { iops: countOf('--iops', options.iops) }),
    ...(options.iopsBurst === undefined ? {} : { iops_burst: countOf('--iops-burst', options.iopsBurst) }),
    ...(options.bandwidth === undefined ? {} : { bandwidth: Number(parseSize(options.bandwidth)) }),
    ...(options.bandwidthBurst === undefined
      ? {}
      : { bandwidth_burst: Number(parseSize(options.bandwidthBurst)) }),
  };
  return Object.keys(body).length === 0 ? undefined : body;
}

function countOf(option: string, text: string): number {
  if (/^[1-9][0-9]{0,9}$/.test(text)) return Number(text);
  throw new CellblockError(
    'option-invalid',
    `The option '${option}' takes a whole number, not ${JSON.stringify(text)}.`,
    {
      hint: `Say it such as ${option} 5000.`,
    },
  );
}

function logChange({ transactionLog, logData }: SettingOptions): { transaction_log?: object | null } {
  if (typeof transactionLog === 'string')
    return { transaction_log: { file: transactionLog, data: logData === true } };
  if (logData === true) {
    throw new CellblockError(
      'option-invalid',
      "The option '--log-data' goes with '--transaction-log <file>'.",
      {
        hint: 'Name the file, also where it is the one in use.',
      },
    );
  }
  return transactionLog === false ? { transaction_log: null } : {};
}

export function settingFacts({ limits, transactionLog }: Volume | VolumeDetails): [string, string][] {
  return [
    ['Limits', limits === null ? '-' : limitsText(limits)],
    ['Transaction log', transactionLog === null ? '-' : logText(transactionLog)],
  ];
}

function limitsText(limits: NonNullable<Volume['limits']>): string {
  const { iops, iopsBurst, bandwidth, bandwidthBurst } = limits;
  const burst = (text: string): string => (text === '' ? '' : ` (burst ${text})`);
  return [
    ...(iops > 0 ? [`${iops} requests/s${burst(iopsBurst > 0 ? String(iopsBurst) : '')}`] : []),
    ...(bandwidth > 0n
      ? [`${formatBytes(bandwidth)}/s${burst(bandwidthBurst > 0n ? formatBytes(bandwidthBurst) : '')}`]
      : []),
  ].join(', ');
}

function logText({ file, data, lost }: NonNullable<Volume['transactionLog']>): string {
  return `${file}${data ? ' with data' : ''}${lost === null ? '' : `, not written (${lost})`}`;
}
