/**
 * The devices on which trainings and evaluations are placed: each GPU of the machine by its UUID, or slots of CPU
 * cores. Each takes one run at a time.
 */
import { availableParallelism } from 'node:os';
import { DomainError } from '../src/errors.ts';
import { ENGINE_INSTALL_COMMAND } from '../src/platform/engine/installed.ts';
import { DriverSilentError, isVisibleGpu, queryGpus } from '../src/platform/engine/nvidia-smi.ts';
import { cpuComputesInBfloat16, usableMemoryBytes } from '../src/platform/machine.ts';
import type { WorkerCapabilities } from '../src/protocol/requirements.ts';

export interface Device {
  /** The UUID of a GPU, or a CPU slot of this worker: no two running runs have the same. */
  readonly id: string;
  /** The environment of a run's process that lets it see only this device. */
  readonly env: Readonly<Record<string, string>>;
  /** What a run finds on it; the engine may still find that it cannot compute in bfloat16. */
  readonly facts: DeviceFacts;
}

export type DeviceFacts = Pick<WorkerCapabilities, 'device' | 'bfloat16' | 'memoryMiB' | 'gpuMemoryMiB'>;

export interface Devices {
  /**
   * Every device of this worker; the list never changes while it runs.
   * @throws DomainError GPU_UNREACHABLE if the driver of the GPUs does not answer.
   */
  list(): Promise<readonly Device[]>;
  /** False while another process fills the device's memory. */
  hasRoom(device: Device): Promise<boolean>;
}

/** TensorFlow takes all free memory; beside a run that is still ending, it would find too little. */
const FREE_MEMORY_SHARE_MIN = 0.8;

/**
 * The GPUs that nvidia-smi reports.
 * @param visible indices or UUIDs of those that may be used, as CUDA_VISIBLE_DEVICES has them: a scheduler gives a job
 * some of a node's GPUs, and nvidia-smi may show them all. Undefined: all.
 * @param nvidiaSmi the program, or one with the same output.
 */
export function gpuDevices(visible?: readonly string[], nvidiaSmi?: string): Devices {
  const visibleGpus = async () => {
    const all = await queryGpus(['uuid', 'memory.total', 'memory.free'], nvidiaSmi).catch((error: unknown) => {
      throw error instanceof DriverSilentError ? unreachable(error) : error;
    });
    return all
      .map(([id = '', total, free]) => ({ id, totalMiB: Number(total), freeShare: Number(free) / Number(total) }))
      .filter(({ id }, index) => isVisibleGpu(visible, id, index));
  };
  return {
    list: async () => {
      const gpus = await visibleGpus();
      const memoryMiB = shareOfMemoryMiB(gpus.length);
      return gpus.map(({ id, totalMiB }) => ({
        id,
        env: { CUDA_VISIBLE_DEVICES: id },
        facts: { device: 'GPU', bfloat16: true, memoryMiB, gpuMemoryMiB: totalMiB },
      }));
    },
    hasRoom: async (device) =>
      (await visibleGpus()).some(({ id, freeShare }) => id === device.id && freeShare >= FREE_MEMORY_SHARE_MIN),
  };
}

function unreachable(cause: DriverSilentError): DomainError {
  return new DomainError({
    code: 'GPU_UNREACHABLE',
    message: `The engine's CUDA build is installed, but no NVIDIA driver answers: ${cause.message}.`,
    hint: `Make "nvidia-smi" work on this machine, or install the CPU build: "${ENGINE_INSTALL_COMMAND} -- --build cpu".`,
    cause,
  });
}

/**
 * Slots of the CPU, which share its cores.
 * @param wanted the number of concurrent runs; at most one per core.
 */
export function cpuDevices(workerName: string, wanted: number, coreCount = availableParallelism()): Devices {
  const slotCount = Math.min(wanted, coreCount);
  const threads = String(Math.max(1, Math.floor(coreCount / slotCount)));
  // With one slot TensorFlow's own choice applies: every core.
  const env: Readonly<Record<string, string>> =
    slotCount === 1 ? {} : { TF_NUM_INTRAOP_THREADS: threads, TF_NUM_INTEROP_THREADS: '1', OMP_NUM_THREADS: threads };
  const facts: DeviceFacts = { ...cpuFacts(), memoryMiB: shareOfMemoryMiB(slotCount) };
  const devices = Array.from({ length: slotCount }, (_, index) => ({ id: `${workerName}/cpu-${index}`, env, facts }));
  return { list: () => Promise.resolve(devices), hasRoom: () => Promise.resolve(true) };
}

/** The facts of the whole machine without its GPUs. */
export function cpuFacts(): DeviceFacts {
  return {
    device: 'CPU',
    bfloat16: cpuComputesInBfloat16(),
    memoryMiB: shareOfMemoryMiB(1),
    gpuMemoryMiB: null,
  };
}

/** Runs beside each other share the memory: each is promised an equal part. */
function shareOfMemoryMiB(placeCount: number): number {
  return Math.floor(usableMemoryBytes() / 1024 ** 2 / Math.max(1, placeCount));
}
