// The control API over its unix socket, as plain HTTP: it shares no code with the agent or the CLI.
import http from 'node:http';

export interface ApiAnswer {
  status: number;
  body: unknown;
}

/** An answer outside 2xx; `code` is the API's stable error code. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export interface CheckReport {
  clean: boolean;
  raw: unknown;
}

export class ApiClient {
  constructor(readonly socketPath: string) {}

  /** One request; any status is an answer. */
  request(method: string, path: string, body?: unknown): Promise<ApiAnswer> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = http.request({
        socketPath: this.socketPath,
        method,
        path,
        agent: false,
        headers: payload
          ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
          : {},
      });
      request.once('error', reject);
      request.once('response', (response) => {
        const parts: Buffer[] = [];
        response.on('data', (bytes: Buffer) => parts.push(bytes));
        response.once('error', reject);
        response.once('end', () => {
          const text = Buffer.concat(parts).toString();
          resolve({ status: response.statusCode ?? 0, body: parse(text) });
        });
      });
      request.end(payload);
    });
  }

  /** One request that has to succeed; gives the body. */
  async call<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.request(method, path, body);
    if (answer.status >= 200 && answer.status < 300) return answer.body as T;
    const { error } = (answer.body ?? {}) as { error?: { code?: string } };
    const told = `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`;
    throw new ApiError(answer.status, error?.code ?? '', told);
  }

  createVolume(name: string, size: bigint | number | string): Promise<unknown> {
    return this.call('POST', '/v1/volumes', { name, size: String(size) });
  }

  /** Deletes a volume with its snapshots; clients are disconnected. */
  deleteVolume(name: string): Promise<unknown> {
    return this.call('DELETE', `/v1/volumes/${encodeURIComponent(name)}?with_snapshots=true&disconnect=true`);
  }

  resizeVolume(
    name: string,
    size: bigint | number,
    options: { force: boolean } = { force: false },
  ): Promise<unknown> {
    return this.call('PATCH', `/v1/volumes/${encodeURIComponent(name)}`, {
      size: String(size),
      force: options.force,
    });
  }

  renameVolume(name: string, to: string): Promise<unknown> {
    return this.call('PATCH', `/v1/volumes/${encodeURIComponent(name)}`, { name: to });
  }

  /** Snapshots of several volumes in one instant; targets are `VOLUME@SNAPSHOT`. */
  snapshot(...targets: string[]): Promise<unknown> {
    return this.call('POST', '/v1/snapshots', { targets });
  }

  deleteSnapshot(target: string): Promise<unknown> {
    return this.call('DELETE', `/v1/snapshots/${encodeURIComponent(target)}`);
  }

  clone(source: string, name: string): Promise<unknown> {
    return this.call('POST', '/v1/clones', { source, name });
  }

  /** `from` null: an undo. Answers the names of undo points, `VOLUME@SNAPSHOT`. */
  async sync(target: string, from: string | null, options: Record<string, boolean> = {}): Promise<string[]> {
    const path = from === null ? '/v1/syncs/undo' : '/v1/syncs';
    const body = { target, ...(from === null ? {} : { from }), ...options };
    return (await this.call<{ safety: string[] }>('POST', path, body)).safety;
  }

  /** The store's own check. */
  async check(): Promise<CheckReport> {
    const raw = await this.call<{ clean: boolean }>('GET', '/v1/store/check');
    return { clean: raw.clean === true, raw };
  }
}

function parse(text: string): unknown {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    return text;
  }
}
