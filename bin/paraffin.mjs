#!/usr/bin/env node
/** The `paraffin` command under whatever Node the machine has; the program itself runs on the pinned one. */
import '../scripts/node-version.mjs';
import path from 'node:path';

process.argv.splice(2, 0, path.resolve(import.meta.dirname, '..', 'src', 'cli', 'main.ts'));
await import('../scripts/run.mjs');
