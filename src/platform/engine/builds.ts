/** The builds of TensorFlow that the engine is known to work with, and which of them fits this machine. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * A wheel of the Python index, pinned by its digest. The C API in it does not depend on the Python version in its name.
 */
export interface EngineWheel {
  readonly package: string;
  readonly version: string;
  readonly sha256: string;
  readonly platform: string;
  readonly pythonVersion: string;
  /**
   * Size of the wheel, and approximate size of the unpacked part: for progress and for the check of free disk space.
   */
  readonly megabytes: number;
  readonly unpackedMegabytes: number;
}

export const ENGINE_BUILD_NAMES = ['cpu', 'cuda'] as const;
export type EngineBuildName = (typeof ENGINE_BUILD_NAMES)[number];

/** One of NVIDIA's wheels, and the names of the libraries in it that TensorFlow loads. */
export interface CudaWheel {
  readonly package: string;
  readonly version: string;
  /** `nvidia/<folder>/lib` inside the wheel. */
  readonly folder: string;
  readonly libraries: readonly string[];
}

export interface EngineBuild {
  readonly device: 'CPU' | 'GPU';
  readonly wheel: EngineWheel;
  readonly cudaWheels: readonly CudaWheel[];
}

/**
 * The lowest versions that the wheel requires (`tensorflow[and-cuda]`), which are the versions that it was built with:
 * CUDA 12.5, cuDNN 9.3. NCCL (several GPUs for one training), CUPTI (TensorFlow's own profiler) and nvcc (XLA) are left
 * out, because the engine does not use them.
 */
const CUDA_WHEELS: readonly CudaWheel[] = [
  { package: 'nvidia-cuda-runtime-cu12', version: '12.5.82', folder: 'cuda_runtime', libraries: ['libcudart.so.12'] },
  {
    package: 'nvidia-cublas-cu12',
    version: '12.5.3.2',
    folder: 'cublas',
    libraries: ['libcublas.so.12', 'libcublasLt.so.12'],
  },
  { package: 'nvidia-cudnn-cu12', version: '9.3.0.75', folder: 'cudnn', libraries: ['libcudnn.so.9'] },
  { package: 'nvidia-cufft-cu12', version: '11.2.3.61', folder: 'cufft', libraries: ['libcufft.so.11'] },
  { package: 'nvidia-curand-cu12', version: '10.3.6.82', folder: 'curand', libraries: ['libcurand.so.10'] },
  { package: 'nvidia-cusolver-cu12', version: '11.6.3.83', folder: 'cusolver', libraries: ['libcusolver.so.11'] },
  { package: 'nvidia-cusparse-cu12', version: '12.5.1.3', folder: 'cusparse', libraries: ['libcusparse.so.12'] },
  // cuDNN compiles some of its kernels at run time, cuSPARSE and cuSOLVER link theirs.
  { package: 'nvidia-cuda-nvrtc-cu12', version: '12.5.82', folder: 'cuda_nvrtc', libraries: ['libnvrtc.so.12'] },
  { package: 'nvidia-nvjitlink-cu12', version: '12.5.82', folder: 'nvjitlink', libraries: ['libnvJitLink.so.12'] },
];

export const ENGINE_BUILDS: Readonly<Record<EngineBuildName, EngineBuild>> = {
  cpu: {
    device: 'CPU',
    wheel: {
      package: 'tensorflow-cpu',
      version: '2.21.0',
      platform: 'manylinux_2_27_x86_64',
      pythonVersion: '3.11',
      megabytes: 274,
      unpackedMegabytes: 860,
      sha256: '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c',
    },
    cudaWheels: [],
  },
  cuda: {
    device: 'GPU',
    wheel: {
      // The digest is from the index; the wheel itself was not downloaded to check it. A wrong digest would only make
      // the install fail.
      package: 'tensorflow',
      version: '2.21.0',
      platform: 'manylinux_2_27_x86_64',
      pythonVersion: '3.13',
      megabytes: 573,
      unpackedMegabytes: 1900,
      sha256: 'e9d8da8dcab9650efb45f032ba70af2f016f907e6e0c6bda29dd101bba945406',
    },
    cudaWheels: CUDA_WHEELS,
  },
};

/** The oldest driver that runs CUDA 12 (NVIDIA's minor version compatibility). */
const DRIVER_MIN = [525, 60] as const;

export interface ChosenBuild {
  readonly build: EngineBuildName;
  /** One sentence that explains the choice to the user. */
  readonly why: string;
}

/**
 * The CUDA build if a sufficiently new NVIDIA driver is installed, else the CPU build.
 * @param nvidiaSmi the nvidia-smi program, or a compatible one.
 */
export async function chooseEngineBuild(nvidiaSmi = 'nvidia-smi'): Promise<ChosenBuild> {
  const answer = await run(nvidiaSmi, ['--query-gpu=name,driver_version', '--format=csv,noheader'], {
    timeout: 10_000,
  }).then(
    ({ stdout }) => ({ kind: 'ANSWERED', lines: stdout.split('\n').filter((line) => line.trim() !== '') }) as const,
    (error: unknown) => ({ kind: 'SILENT', reason: reasonOf(error) }) as const,
  );
  if (answer.kind === 'SILENT')
    return { build: 'cpu', why: `The CPU build is used: no NVIDIA driver answers (${answer.reason}).` };
  const [first] = answer.lines;
  if (first === undefined) return { build: 'cpu', why: 'The CPU build is used: the NVIDIA driver reports no GPU.' };
  const [name = '', version = ''] = first.split(',').map((cell) => cell.trim());
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < DRIVER_MIN[0] || (major === DRIVER_MIN[0] && minor < DRIVER_MIN[1])) {
    return {
      build: 'cpu',
      why: `The CPU build is used: the NVIDIA driver is ${version}, but CUDA 12 needs ${DRIVER_MIN.join('.')} or newer.`,
    };
  }
  return { build: 'cuda', why: `The CUDA build is used: found ${name} with driver ${version}.` };
}

/** The last line that the program printed, or a message that it is not installed. */
function reasonOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'nvidia-smi is not installed';
  const output =
    error instanceof Error && 'stderr' in error
      ? `${String(error.stderr)}${'stdout' in error ? String(error.stdout) : ''}`.trim()
      : '';
  return output === '' ? 'nvidia-smi failed' : (output.split('\n').at(-1) ?? output);
}
