/** What NVIDIA's driver says about the machine's GPUs, by its program nvidia-smi. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TIMEOUT_MS = 10_000;

export type GpuFact = 'name' | 'uuid' | 'driver_version' | 'memory.total' | 'memory.free';

/** No driver answers; the message is the reason, without a full stop. */
export class DriverSilentError extends Error {
  constructor(reason: string, options?: ErrorOptions) {
    super(reason, options);
    this.name = 'DriverSilentError';
  }
}

/**
 * One row for each GPU: the text of each fact, in the order asked for. Memory is in MiB.
 * @param nvidiaSmi the program, or one with the same output.
 * @throws DriverSilentError if the program is missing, fails, or does not answer within ten seconds.
 */
export async function queryGpus(facts: readonly GpuFact[], nvidiaSmi = 'nvidia-smi'): Promise<string[][]> {
  try {
    const { stdout } = await run(nvidiaSmi, [`--query-gpu=${facts.join(',')}`, '--format=csv,noheader,nounits'], {
      timeout: TIMEOUT_MS,
    });
    return stdout
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => line.split(',').map((cell) => cell.trim()));
  } catch (cause) {
    throw new DriverSilentError(reasonOf(cause), { cause });
  }
}

/**
 * Whether CUDA_VISIBLE_DEVICES leaves a GPU visible; nvidia-smi shows those that it hides, too.
 * @param visible the indices, UUIDs or beginnings of UUIDs that it names; undefined: all.
 */
export function isVisibleGpu(visible: readonly string[] | undefined, uuid: string, index: number): boolean {
  return visible?.some((name) => name === String(index) || (name !== '' && uuid.startsWith(name))) ?? true;
}

/** The last line that the program printed, or a message that it is not installed. */
function reasonOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'nvidia-smi is not installed';
  if (error instanceof Error && 'killed' in error && error.killed === true)
    return `nvidia-smi did not answer within ${TIMEOUT_MS / 1000} s`;
  const output =
    error instanceof Error && 'stderr' in error
      ? `${String(error.stderr)}${'stdout' in error ? String(error.stdout) : ''}`.trim()
      : '';
  return output === '' ? 'nvidia-smi failed' : (output.split('\n').at(-1) ?? output).replace(/\.$/, '');
}
