/** The builds of TensorFlow that the engine is known to work with, and which of them fits this machine. */
import { DriverSilentError, queryGpus } from './nvidia-smi.ts';

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
export interface CudaWheel extends EngineWheel {
  /** `nvidia/<folder>/lib` inside the wheel. */
  readonly folder: string;
  readonly libraries: readonly string[];
}

export interface EngineBuild {
  readonly device: 'CPU' | 'GPU';
  readonly wheel: EngineWheel;
  readonly cudaWheels: readonly CudaWheel[];
}

const CUDA_PLATFORM = { platform: 'manylinux2014_x86_64', pythonVersion: '3.11' } as const;

/**
 * The lowest versions that the wheel requires (`tensorflow[and-cuda]`), which are the versions that it was built with:
 * CUDA 12.5, cuDNN 9.3. NCCL (several GPUs for one training), CUPTI (TensorFlow's own profiler) and nvcc (XLA) are left
 * out, because the engine does not use them.
 */
const CUDA_WHEELS: readonly CudaWheel[] = [
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cuda-runtime-cu12',
    version: '12.5.82',
    sha256: '3e79a060e126df40fd3a068f3f787eb000fa51b251ec6cd97d09579632687115',
    megabytes: 1,
    unpackedMegabytes: 1,
    folder: 'cuda_runtime',
    libraries: ['libcudart.so.12'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cublas-cu12',
    version: '12.5.3.2',
    sha256: 'ca070ad70e9fa6654084575d01bd001f30cc4665e33d4bb9fc8e0f321caa034b',
    megabytes: 363,
    unpackedMegabytes: 552,
    folder: 'cublas',
    libraries: ['libcublas.so.12', 'libcublasLt.so.12'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cudnn-cu12',
    version: '9.3.0.75',
    sha256: '9ad9c6929ebb5295eb4a1728024666d1c88283373e265a0c5c883e6f9d5cd76d',
    megabytes: 577,
    unpackedMegabytes: 885,
    folder: 'cudnn',
    libraries: ['libcudnn.so.9'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cufft-cu12',
    version: '11.2.3.61',
    sha256: '9a6e8df162585750f61983a638104a48c756aa13f9f48e19ab079b38e3c828b8',
    megabytes: 193,
    unpackedMegabytes: 279,
    folder: 'cufft',
    libraries: ['libcufft.so.11'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-curand-cu12',
    version: '10.3.6.82',
    sha256: '2823fb27de4e44dbb22394a6adf53aa6e1b013aca0f8c22867d1cfae58405536',
    megabytes: 56,
    unpackedMegabytes: 97,
    folder: 'curand',
    libraries: ['libcurand.so.10'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cusolver-cu12',
    version: '11.6.3.83',
    sha256: '93cfafacde4428b71778eeb092ec615a02a3d05404da1bcf91c53e3fa1bce42b',
    megabytes: 130,
    unpackedMegabytes: 218,
    folder: 'cusolver',
    libraries: ['libcusolver.so.11'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cusparse-cu12',
    version: '12.5.1.3',
    sha256: '016df8e993c437e8301e62739f01775cba988fd5253cd4c64173f8e8d2f8e752',
    megabytes: 218,
    unpackedMegabytes: 296,
    folder: 'cusparse',
    libraries: ['libcusparse.so.12'],
  },
  // cuDNN compiles some of its kernels at run time, cuSPARSE and cuSOLVER link theirs.
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-cuda-nvrtc-cu12',
    version: '12.5.82',
    sha256: '3dbd97b0104b4bfbc3c4f8c79cd2496307c89c43c29a9f83125f1d76296ff3fd',
    megabytes: 25,
    unpackedMegabytes: 68,
    folder: 'cuda_nvrtc',
    libraries: ['libnvrtc.so.12'],
  },
  {
    ...CUDA_PLATFORM,
    package: 'nvidia-nvjitlink-cu12',
    version: '12.5.82',
    sha256: 'f9b37bc5c8cf7509665cb6ada5aaa0ce65618f2332b7d3e78e9790511f111212',
    megabytes: 21,
    unpackedMegabytes: 55,
    folder: 'nvjitlink',
    libraries: ['libnvJitLink.so.12'],
  },
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
      package: 'tensorflow',
      version: '2.21.0',
      platform: 'manylinux_2_27_x86_64',
      pythonVersion: '3.13',
      megabytes: 573,
      unpackedMegabytes: 1300,
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
export async function chooseEngineBuild(nvidiaSmi?: string): Promise<ChosenBuild> {
  try {
    return chosenFor(await queryGpus(['name', 'driver_version'], nvidiaSmi));
  } catch (error) {
    if (!(error instanceof DriverSilentError)) throw error;
    return { build: 'cpu', why: `The CPU build is used: no NVIDIA driver answers (${error.message}).` };
  }
}

function chosenFor([first]: readonly (readonly string[])[]): ChosenBuild {
  if (first === undefined) return { build: 'cpu', why: 'The CPU build is used: the NVIDIA driver reports no GPU.' };
  const [name = '', version = ''] = first;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < DRIVER_MIN[0] || (major === DRIVER_MIN[0] && minor < DRIVER_MIN[1])) {
    return {
      build: 'cpu',
      why: `The CPU build is used: the NVIDIA driver is ${version}, but CUDA 12 needs ${DRIVER_MIN.join('.')} or newer.`,
    };
  }
  return { build: 'cuda', why: `The CUDA build is used: found ${name} with driver ${version}.` };
}
