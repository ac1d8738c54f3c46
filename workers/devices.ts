/**
 * What trainings and evaluations are placed on: each GPU of the machine by its UUID, or slots of its cores. One run
 * each.
 */
import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Device {
  /** The UUID of a GPU, or a CPU slot of this worker: no two runs under way have the same. */
  readonly id: string;
  /** What the process of a run is started with, so that it sees this device alone. */
  readonly env: Readonly<Record<string, string>>;
}

export interface Devices {
  /** Every device of this worker; the same all the time that it runs. */
  list(): Promise<readonly Device[]>;
  /** False while something else, ours or not, fills the device's memory. */
  hasRoom(device: Device): Promise<boolean>;
}

/** TensorFlow takes what it finds; beside a run that is still on its way out, it would find too little. */
const FREE_MEMORY_SHARE_MIN = 0.8;

/**
 * The GPUs that nvidia-smi knows.
 * @param nvidiaSmi the program, or one that answers as it does.
 */
export function gpuDevices(nvidiaSmi = 'nvidia-smi'): Devices {
  const look = async (): Promise<{ readonly id: string; readonly freeShare: number }[]> => {
    const { stdout } = await run(
      nvidiaSmi,
      ['--query-gpu=uuid,memory.total,memory.free', '--format=csv,noheader,nounits'],
      { timeout: 10_000 },
    );
    return stdout.split('\n').flatMap((line) => {
      const [id = '', total, free] = line.split(',').map((cell) => cell.trim());
      return id === '' ? [] : [{ id, freeShare: Number(free) / Number(total) }];
    });
  };
  return {
    list: async () => (await look()).map(({ id }) => ({ id, env: { CUDA_VISIBLE_DEVICES: id } })),
    hasRoom: async (device) =>
      (await look()).some(({ id, freeShare }) => id === device.id && freeShare >= FREE_MEMORY_SHARE_MIN),
  };
}

/**
 * Slots of the CPU, which share its cores.
 * @param wanted how many runs at once; no more than there are cores.
 */
export function cpuDevices(workerName: string, wanted: number, coreCount = availableParallelism()): Devices {
  const slotCount = Math.min(wanted, coreCount);
  const threads = String(Math.max(1, Math.floor(coreCount / slotCount)));
  // With one slot TensorFlow's own choice is kept: every core.
  const env: Readonly<Record<string, string>> =
    slotCount === 1 ? {} : { TF_NUM_INTRAOP_THREADS: threads, TF_NUM_INTEROP_THREADS: '1', OMP_NUM_THREADS: threads };
  const devices = Array.from({ length: slotCount }, (_, index) => ({ id: `${workerName}/cpu-${index}`, env }));
  return { list: () => Promise.resolve(devices), hasRoom: () => Promise.resolve(true) };
}
