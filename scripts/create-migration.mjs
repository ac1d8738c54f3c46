/**
 * Writes the SQL of the next migration: the difference between prisma/schema.prisma and its last commit.
 *
 *   npm run migration -- add-thing
 *
 * It uses Prisma's schema engine compiled to WebAssembly, so that no binary is downloaded. Read the SQL before you
 * commit it.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as schemaEngine from '@prisma/schema-engine-wasm/schema_engine_bg';
import { startPostgres } from '../src/platform/postgres.ts';

const name = process.argv[2];
if (name === undefined || !/^[a-z][a-z0-9-]*$/.test(name)) {
  console.error('usage: npm run migration -- <name-in-kebab-case>');
  process.exit(2);
}

const root = path.resolve(import.meta.dirname, '..');
const migrationsDir = path.join(root, 'prisma', 'migrations');
const schemaNow = readFileSync(path.join(root, 'prisma', 'schema.prisma'), 'utf8');
const isFirst = readdirSync(migrationsDir, { withFileTypes: true }).every((entry) => !entry.isDirectory());

await loadEngine();
Reflect.set(globalThis, 'PRISMA_WASM_PANIC_REGISTRY', { set_message: (message) => console.error(message) });
// The engine requires the address of a server, although a diff of two schema files never connects to it.
const scratchDir = mkdtempSync(path.join(tmpdir(), 'paraffin-migration-'));
const postgres = await startPostgres(scratchDir);
const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg({ connectionString: postgres.url }));
const engine = await schemaEngine.SchemaEngine.new(
  { datamodels: [['schema.prisma', schemaNow]] },
  () => undefined,
  adapter,
);
const schemaOf = (content) => ({ tag: 'schemaDatamodel', files: [{ path: 'schema.prisma', content }] });
const result = await engine.diff({
  from: isFirst
    ? { tag: 'empty' }
    : schemaOf(execFileSync('git', ['show', 'HEAD:prisma/schema.prisma'], { cwd: root, encoding: 'utf8' })),
  to: schemaOf(schemaNow),
  script: true,
  exitCode: null,
  filters: { externalTables: [], externalEnums: [] },
});
await postgres.stop();
rmSync(scratchDir, { recursive: true, force: true });
const sql = result.stdout ?? '';
if (sql.trim() === '' || sql.includes('This is an empty migration')) {
  console.log('The schema has not changed.');
  process.exit(0);
}
const stamp = new Date().toISOString().replace(/\D/g, '').slice(0, 14);
const folder = path.join(migrationsDir, `${stamp}_${name.replaceAll('-', '_')}`);
mkdirSync(folder);
writeFileSync(path.join(folder, 'migration.sql'), sql);
console.log(path.relative(root, path.join(folder, 'migration.sql')));
process.exit(0);

async function loadEngine() {
  const wasmPath = createRequire(import.meta.url)
    .resolve('@prisma/schema-engine-wasm/schema_engine_bg')
    .replace(/\.js$/, '.wasm');
  const module = await WebAssembly.compile(readFileSync(wasmPath));
  const instance = await WebAssembly.instantiate(module, { './schema_engine_bg.js': schemaEngine });
  schemaEngine.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
}
