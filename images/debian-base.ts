/**
 * The base image where no registry of images can be reached: Debian 12 from its mirror by debootstrap, the Node that
 * the project pins, npm, and the user "node", as in node:24-bookworm-slim. It trusts what this machine trusts, so that
 * a build behind a proxy with an authority of its own works.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { childEnvironment } from '../src/env.ts';
import type { ContainerEngine } from './engines.ts';

const execute = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '..');
const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt';

export const DEBIAN_BASE = 'localhost/paraffin-base:debian';

/** Needs root and debootstrap. @returns the tag. */
export async function buildDebianBase(engine: ContainerEngine, mirror: string): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-base-'));
  const root = path.join(folder, 'root');
  const inside = (...parts: readonly string[]): string => path.join(root, ...parts);
  try {
    await run('debootstrap', ['--variant=minbase', '--include=ca-certificates', 'bookworm', root, mirror], {
      PATH: `${childEnvironment({})['PATH']}:/usr/sbin:/sbin`,
    });
    await copyFile(AUTHORITIES, inside(AUTHORITIES));
    await copyFile(path.join(ROOT, 'node_modules/node/bin/node'), inside('usr/local/bin/node'));
    // The one that Node 24 comes with.
    const [packed] = (await run('npm', ['pack', 'npm@11', '--silent', '--pack-destination', folder]))
      .trim()
      .split('\n');
    const npm = inside('usr/local/lib/node_modules/npm');
    await mkdir(npm, { recursive: true });
    await run('tar', ['-xzf', path.join(folder, packed ?? ''), '--strip-components=1', '-C', npm]);
    for (const program of ['npm', 'npx'])
      await symlink(`../lib/node_modules/npm/bin/${program}-cli.js`, inside('usr/local/bin', program));
    await run('chroot', [root, 'useradd', '--create-home', '--uid', '1000', 'node']);
    await rm(inside('var/lib/apt/lists'), { recursive: true, force: true });
    await rm(inside('var/cache/apt'), { recursive: true, force: true });
    const archive = path.join(folder, 'base.tar');
    await run('tar', ['-C', root, '-cf', archive, '.']);
    await engine.importArchive(archive, DEBIAN_BASE, {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      NODE_EXTRA_CA_CERTS: AUTHORITIES,
      PIP_CERT: AUTHORITIES,
    });
    return DEBIAN_BASE;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { stdout } = await execute(program, args, { env: childEnvironment(env), maxBuffer: 64_000_000 });
  return stdout;
}
