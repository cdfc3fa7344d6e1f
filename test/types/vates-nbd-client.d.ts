// The package has no types of its own; of its client, what the tests call.
declare module '@vates/nbd-client' {
  export default class NbdTcpClient {
    constructor(
      settings: { address: string; port?: number; exportname?: string; cert?: string },
      options?: { connectTimeout?: number; waitBeforeReconnect?: number; readBlockRetries?: number },
    );
    readonly exportSize: bigint;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    readBlock(index: number, size?: number): Promise<Buffer>;
    getMap(): Promise<{ offset: number; length: number; type: number }[]>;
  }
}
