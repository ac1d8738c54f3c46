/**
 * Compiles tfjs-node's native binding together with our own ops, and links it to the path from which tfjs-node loads
 * it.
 */
import { existsSync } from 'node:fs';
import { mkdir, rename, symlink, unlink } from 'node:fs/promises';
import path from 'node:path';
import { bindingPath, nativeSources, tfjsPackageDir } from './installed.ts';
import { nodeHeadersDir, runTool, type EngineProgress } from './tools.ts';

export async function compileBinding(
  versionDir: string,
  binding: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  onProgress({ message: 'compiling the binding and the native ops with g++ (about 15 s)' });
  const sourceDir = path.join(tfjsPackageDir(), 'binding');
  const libDir = path.join(versionDir, 'lib');
  await mkdir(path.dirname(binding), { recursive: true });
  const temporary = `${binding}.${process.pid}`;
  await runTool(
    'g++',
    [
      '-shared',
      '-fPIC',
      '-O3',
      '-std=c++17',
      '-DNAPI_VERSION=8',
      '-w',
      `-I${sourceDir}`,
      `-I${nodeHeadersDir()}`,
      `-I${path.join(versionDir, 'include')}`,
      path.join(sourceDir, 'tfjs_backend.cc'),
      path.join(sourceDir, 'tfjs_binding.cc'),
      ...nativeSources().filter((file) => file.endsWith('.cc')),
      `-L${libDir}`,
      '-l:libtensorflow_cc.so.2',
      '-l:libtensorflow_framework.so.2',
      // The library path is relative to the binding, so that a cache that was copied or mounted elsewhere still works.
      '-Wl,-rpath,$ORIGIN/../lib',
      '-o',
      temporary,
    ],
    versionDir,
  );
  await rename(temporary, binding);
}

export async function linkBinding(binding: string): Promise<void> {
  const target = bindingPath();
  await mkdir(path.dirname(target), { recursive: true });
  await unlink(target).catch(() => undefined);
  await symlink(binding, target).catch((cause: unknown) => {
    if (!existsSync(target)) throw cause;
  });
}
