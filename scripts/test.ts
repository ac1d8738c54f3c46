/**
 * The test command: types, rules, walls, drift of schema.graphql, then every test,
 * and finally whether a test that ran verifies each promise of the docs.
 *
 *   npm test                         everything
 *   npm test -- test/unit            only these files or folders
 *   npm test -- --artifacts s3       with the artifacts of every registry in a bucket instead of a folder
 *   npm run lint                     only types, rules and walls
 */
import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { installEngine } from '../src/cli/engine.ts';
import { BUCKET_VARIABLE, bucketOf } from '../test/support/artifact-place.ts';
import { startTemplateServer } from '../test/support/database.ts';
import { startS3Server } from '../test/support/s3-server.ts';
import { promisesOfDocs, promisesWithoutTest } from './promises.ts';

const root = path.resolve(import.meta.dirname, '..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, artifacts: { type: 'string', default: 'folder' } },
});
if (!['folder', 's3'].includes(values.artifacts)) {
  console.error('Artifacts are in a folder or in S3: --artifacts folder, or --artifacts s3.');
  process.exit(2);
}

// TypeScript 7 checks types in a third of the time; the linter's rules need the API of TypeScript 6, which stays
// installed for them. The results of the last check are kept for each file until the file, or one that it imports,
// changes: 2 seconds of processor time instead of 13 if nothing has changed.
const typeCheck = (project: string, cacheName: string): readonly string[] => [
  ...['--noEmit', '--project', project, '--incremental'],
  ...['--tsBuildInfoFile', `node_modules/.cache/tsbuild/${cacheName}.tsbuildinfo`],
];
const CHECKS: readonly (readonly [string, string, readonly string[]])[] = [
  ['types', 'typescript-7/bin/tsc', typeCheck('.', 'programs')],
  ['types of the pages', 'typescript-7/bin/tsc', typeCheck('web', 'pages')],
  ['format', 'prettier/bin/prettier.cjs', ['--check', '--log-level', 'warn', '.']],
  ['rules', 'eslint/bin/eslint.js', ['--max-warnings', '0', '.']],
  [
    'walls',
    'dependency-cruiser/bin/dependency-cruiser.mjs',
    ['src', 'workers', 'web/src', '--config', '.dependency-cruiser.cjs'],
  ],
];

const ranTestSchema = z.object({ file: z.string(), names: z.array(z.string()) });

async function run(title: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<boolean> {
  const startedMs = performance.now();
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: 'inherit' });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  console.log(`${code === 0 ? 'ok  ' : 'FAIL'} ${title} (${((performance.now() - startedMs) / 1000).toFixed(1)} s)`);
  return code === 0;
}

async function runTests(): Promise<boolean> {
  await installEngine();
  const wanted = positionals.length === 0 ? ['test'] : positionals;
  const files = wanted
    .flatMap((entry) =>
      entry.endsWith('.ts') ? [entry] : globSync(`${entry.replace(/\/$/, '')}/**/*.test.ts`, { cwd: root }),
    )
    .sort();
  if (files.length === 0) {
    console.error(`No test file under ${wanted.join(', ')}.`);
    return false;
  }
  const reportDir = mkdtempSync(path.join(os.tmpdir(), 'paraffin-tests-'));
  const report = path.join(reportDir, 'ran.jsonl');
  const template = await startTemplateServer();
  const s3 = values.artifacts === 's3' ? await startS3Server(path.join(reportDir, 'objects')) : undefined;
  try {
    const env = {
      ...process.env,
      ...(s3 === undefined ? {} : { [BUCKET_VARIABLE]: JSON.stringify(bucketOf(s3)) }),
      PARAFFIN_TEST_TEMPLATE_URL: template.url,
      TF_CPP_MIN_LOG_LEVEL: '2',
      PARAFFIN_LOG_LEVEL: process.env['PARAFFIN_LOG_LEVEL'] ?? 'error',
    };
    const args = [
      ...['--test', '--test-concurrency=2', '--test-timeout=300000'],
      ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
      ...['--test-reporter=./scripts/ran-tests-reporter.ts', `--test-reporter-destination=${report}`],
    ];
    return (await run('tests', [...args, ...files], env)) && arePromisesVerified(files, report);
  } finally {
    await s3?.stop();
    await template.stop();
    rmSync(reportDir, { recursive: true });
  }
}

function arePromisesVerified(files: readonly string[], report: string): boolean {
  const ran = readFileSync(report, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => ranTestSchema.parse(JSON.parse(line)));
  const unverified = promisesWithoutTest(root, promisesOfDocs(root), files, ran);
  for (const { page, file, title } of unverified)
    console.error(`FAIL promises: ${page} names "${title}" in ${file}, which did not run: name a test that does.`);
  return unverified.length === 0;
}

let green = true;
if (positionals.length === 0) {
  for (const [title, program, args] of CHECKS)
    green = (await run(title, [path.join('node_modules', program), ...args])) && green;
}
if (green && values.only !== 'lint') green = await runTests();
process.exitCode = green ? 0 : 1;
