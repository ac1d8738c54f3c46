/**
 * Which build of TensorFlow a machine gets, and how NVIDIA's libraries are installed with it: real pip with wheels that
 * are made here.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { writeStoredZip } from '../../src/formats/stored-zip.ts';
import { chooseEngineBuild, ENGINE_BUILDS, type CudaWheel } from '../../src/platform/engine/builds.ts';
import { libraryEnvOf, missingCudaLibraries } from '../../src/platform/engine/installed.ts';
import { EngineLibraryError } from '../../src/platform/engine/tools.ts';
import { fetchCudaLibraries } from '../../src/platform/engine/wheels.ts';
import { fakeNvidiaSmi } from '../support/nvidia-smi.ts';
import { temporaryFolder } from '../support/shards.ts';

describe('the build for this machine', () => {
  test('is the CUDA build if the driver is new enough', async (context) => {
    for (const version of ['525.60.13', '550.54', '580.95.05']) {
      const chosen = await chooseEngineBuild(await fakeNvidiaSmi(context, `echo 'NVIDIA H100 80GB HBM3, ${version}'`));
      assert.equal(chosen.build, 'cuda');
      assert.match(chosen.why, /found NVIDIA H100 80GB HBM3/);
    }
  });

  test('is the CPU build otherwise, with the exact reason', async (context) => {
    const cases: readonly (readonly [string, RegExp])[] = [
      [
        await fakeNvidiaSmi(context, "echo 'Tesla K80, 470.256.02'"),
        /driver is 470\.256\.02, but CUDA 12 needs 525\.60/,
      ],
      [await fakeNvidiaSmi(context, "echo 'Tesla V100, 525.59'"), /needs 525\.60/],
      [await fakeNvidiaSmi(context, 'true'), /reports no GPU/],
      [
        await fakeNvidiaSmi(
          context,
          "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
        ),
        /could not communicate with the NVIDIA driver/,
      ],
      [path.join(await temporaryFolder(context), 'not-there'), /nvidia-smi is not installed/],
    ];
    for (const [program, why] of cases) {
      const chosen = await chooseEngineBuild(program);
      assert.equal(chosen.build, 'cpu');
      assert.match(chosen.why, why);
    }
  });
});

const PLATFORM = { platform: 'manylinux2014_x86_64', pythonVersion: '3.11', megabytes: 1, unpackedMegabytes: 1 };
/** The digests are those of the wheels that the tests write. */
const RUNTIME: CudaWheel = {
  ...PLATFORM,
  package: 'nvidia-cuda-runtime-cu12',
  version: '12.5.82',
  sha256: '0'.repeat(64),
  folder: 'cuda_runtime',
  libraries: ['libcudart.so.12'],
};
const CUDNN: CudaWheel = {
  ...PLATFORM,
  package: 'nvidia-cudnn-cu12',
  version: '9.3.0.75',
  sha256: '0'.repeat(64),
  folder: 'cudnn',
  libraries: ['libcudnn.so.9'],
};

/** Writes a wheel that pip accepts, with the given files, and returns its description with its digest. */
async function writeWheel(
  folder: string,
  wheel: CudaWheel,
  files: Readonly<Record<string, string>>,
): Promise<CudaWheel> {
  const { package: name, version } = wheel;
  const stem = `${name.replaceAll('-', '_')}-${version}`;
  const texts = {
    ...files,
    [`${stem}.dist-info/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`,
    [`${stem}.dist-info/WHEEL`]:
      'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-manylinux2014_x86_64\n',
    [`${stem}.dist-info/RECORD`]: '',
  };
  const bytes = writeStoredZip(
    Object.entries(texts).map(([entry, text]) => ({ name: entry, data: Buffer.from(text) })),
    1,
  );
  await writeFile(path.join(folder, `${stem}-py3-none-manylinux2014_x86_64.whl`), bytes);
  return { ...wheel, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** A local package index, the only one that pip uses; returns its folder and the folder of the libraries. */
async function offlineIndex(context: TestContext): Promise<{ index: string; cacheDir: string; versionDir: string }> {
  const folder = await temporaryFolder(context);
  const index = path.join(folder, 'index');
  const cacheDir = path.join(folder, 'cache');
  const versionDir = path.join(cacheDir, 'tensorflow-2.21.0');
  await mkdir(index);
  await mkdir(versionDir, { recursive: true });
  for (const [name, value] of Object.entries({
    PIP_NO_INDEX: '1',
    PIP_FIND_LINKS: index,
    PIP_CONFIG_FILE: '/dev/null',
  })) {
    const before = process.env[name];
    process.env[name] = value;
    context.after(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
  }
  return { index, cacheDir, versionDir };
}

describe("NVIDIA's libraries", () => {
  test('are installed by pip into the folder of the build: only libraries, without leftovers of the installation', async (context) => {
    const { index, cacheDir, versionDir } = await offlineIndex(context);
    const runtime = await writeWheel(index, RUNTIME, {
      'nvidia/cuda_runtime/lib/libcudart.so.12': 'runtime',
      'nvidia/cuda_runtime/include/cuda.h': 'a header',
    });
    const cudnn = await writeWheel(index, CUDNN, { 'nvidia/cudnn/lib/libcudnn.so.9': 'cudnn' });
    assert.deepEqual(missingCudaLibraries(versionDir, [RUNTIME, CUDNN]), [
      'libcudart.so.12 (nvidia-cuda-runtime-cu12)',
      'libcudnn.so.9 (nvidia-cudnn-cu12)',
    ]);
    const messages: string[] = [];
    await fetchCudaLibraries([runtime, cudnn], versionDir, ({ message }) => void messages.push(message));
    assert.deepEqual(missingCudaLibraries(versionDir, [RUNTIME, CUDNN]), []);
    assert.equal(await readFile(path.join(versionDir, 'nvidia/cudnn/lib/libcudnn.so.9'), 'utf8'), 'cudnn');
    assert.deepEqual((await readdir(path.join(versionDir, 'nvidia'), { recursive: true })).sort(), [
      'cuda_runtime',
      'cuda_runtime/lib',
      'cuda_runtime/lib/libcudart.so.12',
      'cudnn',
      'cudnn/lib',
      'cudnn/lib/libcudnn.so.9',
    ]);
    assert.deepEqual(await readdir(cacheDir), ['tensorflow-2.21.0']);
    assert.ok(messages.some((message) => message.includes('CUDA library 2 of 2')));
  });

  test('that a package does not contain are named, and the earlier ones stay', async (context) => {
    const { index, cacheDir, versionDir } = await offlineIndex(context);
    await mkdir(path.join(versionDir, 'nvidia/cudnn/lib'), { recursive: true });
    await writeFile(path.join(versionDir, 'nvidia/cudnn/lib/libcudnn.so.9'), 'before');
    const older = await writeWheel(index, CUDNN, { 'nvidia/cudnn/lib/libcudnn.so.8': 'an older one' });
    await assert.rejects(
      fetchCudaLibraries([older], versionDir, () => undefined),
      (error) =>
        error instanceof EngineLibraryError &&
        /libcudnn\.so\.9 \(nvidia-cudnn-cu12\)/.test(error.message) &&
        error.hint.includes('--build cpu'),
    );
    assert.equal(await readFile(path.join(versionDir, 'nvidia/cudnn/lib/libcudnn.so.9'), 'utf8'), 'before');
    assert.deepEqual(await readdir(cacheDir), ['tensorflow-2.21.0']);
  });

  test('with another digest than the pinned one are refused, and the earlier ones stay', async (context) => {
    const { index, cacheDir, versionDir } = await offlineIndex(context);
    await mkdir(path.join(versionDir, 'nvidia/cudnn/lib'), { recursive: true });
    await writeFile(path.join(versionDir, 'nvidia/cudnn/lib/libcudnn.so.9'), 'before');
    const { sha256 } = await writeWheel(index, CUDNN, { 'nvidia/cudnn/lib/libcudnn.so.9': 'replaced in the index' });
    await assert.rejects(
      fetchCudaLibraries([CUDNN], versionDir, () => undefined),
      (error) =>
        error instanceof EngineLibraryError &&
        error.message === `The wheel of nvidia-cudnn-cu12 has sha256 ${sha256}, expected ${CUDNN.sha256}.`,
    );
    assert.equal(await readFile(path.join(versionDir, 'nvidia/cudnn/lib/libcudnn.so.9'), 'utf8'), 'before');
    assert.deepEqual(await readdir(cacheDir), ['tensorflow-2.21.0']);
  });

  test("that the index does not have are reported with pip's message", async (context) => {
    const { cacheDir, versionDir } = await offlineIndex(context);
    await assert.rejects(
      fetchCudaLibraries([CUDNN], versionDir, () => undefined),
      (error) => error instanceof EngineLibraryError && /nvidia-cudnn-cu12==9\.3\.0\.75/.test(error.message),
    );
    assert.deepEqual(await readdir(cacheDir), ['tensorflow-2.21.0']);
  });

  test('have the lowest versions that the wheel requires, each once', () => {
    // `Requires-Dist` of the wheel's metadata, extra "and-cuda".
    const floors: Readonly<Record<string, string>> = {
      'nvidia-cublas-cu12': '12.5.3.2',
      'nvidia-cuda-nvrtc-cu12': '12.5.82',
      'nvidia-cuda-runtime-cu12': '12.5.82',
      'nvidia-cudnn-cu12': '9.3.0.75',
      'nvidia-cufft-cu12': '11.2.3.61',
      'nvidia-curand-cu12': '10.3.6.82',
      'nvidia-cusolver-cu12': '11.6.3.83',
      'nvidia-cusparse-cu12': '12.5.1.3',
      'nvidia-nvjitlink-cu12': '12.5.82',
    };
    assert.deepEqual(
      Object.fromEntries(ENGINE_BUILDS.cuda.cudaWheels.map((wheel) => [wheel.package, wheel.version])),
      floors,
    );
  });
});

describe('the environment of a process that runs the engine', () => {
  test("finds NVIDIA's libraries before those of the machine, computes float32 in float32, and repeats its results", () => {
    assert.deepEqual(libraryEnvOf([RUNTIME, CUDNN], '/cache/tensorflow', '/usr/local/cuda/lib64'), {
      LD_LIBRARY_PATH:
        '/cache/tensorflow/nvidia/cuda_runtime/lib:/cache/tensorflow/nvidia/cudnn/lib:/usr/local/cuda/lib64',
      TF_FORCE_GPU_ALLOW_GROWTH: 'true',
      NVIDIA_TF32_OVERRIDE: '0',
      TF_DETERMINISTIC_OPS: '1',
    });
    const { LD_LIBRARY_PATH: alone } = libraryEnvOf([RUNTIME], '/cache/tensorflow', undefined);
    assert.equal(alone, '/cache/tensorflow/nvidia/cuda_runtime/lib');
  });

  test('is unchanged by the CPU build', () => {
    assert.deepEqual(libraryEnvOf(ENGINE_BUILDS.cpu.cudaWheels, '/cache/tensorflow-cpu', '/usr/lib'), {});
  });
});
