/** The virtual environment of the compatibility run, installed once by pip. */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { run } from './process.ts';

const TORCH = '2.13.0';
/** The CPU build is tried first, because it is a tenth of the size; not every index has it. */
const TORCH_REQUIREMENTS = [`torch==${TORCH}+cpu`, `torch==${TORCH}`] as const;
const OTHER_REQUIREMENTS = [
  'torchvision',
  'timm',
  'onnxruntime',
  'onnx',
  'safetensors',
  'numpy',
  'h5py',
  'pandas',
  'pyarrow',
  'duckdb',
  'polars',
] as const;
const INSTALL_TIMEOUT_MS = 15 * 60_000;

/** The path of a Python with all packages that the run needs. @throws Error when pip cannot install them. */
export async function preparePython(cacheDir: string, report: (message: string) => void): Promise<string> {
  const environmentDir = path.join(cacheDir, 'venv');
  const python = path.join(environmentDir, 'bin', 'python');
  if (existsSync(python) && (await hasAll(python))) return python;
  report(`making a Python environment by pip in ${environmentDir} (once)`);
  await rm(environmentDir, { recursive: true, force: true });
  await mkdir(cacheDir, { recursive: true });
  await run({ program: 'python3', args: ['-m', 'venv', environmentDir], timeoutMs: INSTALL_TIMEOUT_MS });
  const faults: string[] = [];
  for (const requirement of TORCH_REQUIREMENTS) {
    const args = [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      '--retries',
      '1',
      requirement,
      ...OTHER_REQUIREMENTS,
    ];
    try {
      await run({ program: python, args, timeoutMs: INSTALL_TIMEOUT_MS });
      return python;
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(faults.join('\n'));
}

/** Reads only the installed versions: importing PyTorch takes seconds. */
async function hasAll(python: string): Promise<boolean> {
  const program = `import importlib.metadata as m; [m.version(p) for p in ${JSON.stringify(OTHER_REQUIREMENTS)}]; assert m.version('torch').split('+')[0] == '${TORCH}'`;
  return run({ program: python, args: ['-c', program], timeoutMs: 60_000 }).then(
    () => true,
    () => false,
  );
}

/** The default folder of the environment. */
export function compatCacheDir(): string {
  return path.join(cacheRoot(), 'paraffin', 'compat');
}

/** The cache folder of this user. */
function cacheRoot(): string {
  switch (process.platform) {
    case 'darwin':
      return path.join(os.homedir(), 'Library', 'Caches');
    case 'win32':
      return path.join(os.homedir(), 'AppData', 'Local');
    default:
      return path.join(os.homedir(), '.cache');
  }
}
