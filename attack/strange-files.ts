/** Files and folders that change while they are imported: swapped links, pipes, sparse files. */
import { execFile, spawn } from 'node:child_process';
import { mkdir, open, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { at } from '../test/support/catalogue.ts';
import { lightningFile, someEncoder } from '../test/support/encoder-files.ts';
import type { Attack } from './attack.ts';

const run = promisify(execFile);
const IMPORT =
  'mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id } userErrors { code message hint } } }';
const CONTRACT = { imageSizePx: 64, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };
const HOLE_BYTES = 3 * 1024 ** 3;
/** Exchanges two names atomically: renameat2(2) with RENAME_EXCHANGE. */
const EXCHANGER = 'while (1) { syscall(316, -100, $ARGV[0], -100, $ARGV[1], 2); }';

export const strangeFiles: Attack = {
  name: 'strange-files',
  about:
    'folders that are swapped with links while a file below them is opened, pipes and sparse files, in turn and at once',
  share: 6,
  run: async ({ quick, startServer, isTimeLeft, folder }) => {
    const server = await startServer({ env: { PARAFFIN_LOG_LEVEL: 'fatal' } });
    const imports = path.join(server.dataDir, 'imports');
    const outside = await folder();
    // Valid weights outside the import roots; the file of the same name inside contains none.
    await writeFile(path.join(outside, 'weights'), lightningFile(someEncoder('RESNET18'), ''));
    await mkdir(path.join(imports, 'sub'));
    await writeFile(path.join(imports, 'sub', 'weights'), 'no weights');
    await symlink(outside, path.join(imports, 'link'));
    await run('mkfifo', [path.join(imports, 'pipe')]);
    const holes = await open(path.join(imports, 'holes'), 'w');
    await holes.truncate(HOLE_BYTES);
    await holes.close();

    const findings: string[] = [];
    let tryCount = 0;
    const importFile = async (name: string): Promise<string> => {
      tryCount += 1;
      const input = { path: path.join(imports, name), modelSlug: 'strange', inputContract: CONTRACT };
      const answer = await server.ask(IMPORT, { input });
      if (JSON.stringify(answer).includes(server.adminKey))
        findings.push(`The answer for ${name} contained the admin key.`);
      if (at(answer, 'data.importCheckpoint.checkpoint') != null) return 'IMPORTED';
      return String(at(answer, 'data.importCheckpoint.userErrors.0.code') ?? at(answer, 'errors.0.extensions.code'));
    };

    const exchanger = spawn('perl', ['-e', EXCHANGER, path.join(imports, 'sub'), path.join(imports, 'link')], {
      stdio: 'ignore',
    });
    const started = await new Promise<boolean>((resolve) => {
      exchanger.once('spawn', () => resolve(true));
      exchanger.once('error', () => resolve(false));
    });
    try {
      for (let round = quick ? 6 : 400; round > 0 && isTimeLeft(); round -= 1) {
        const code = await importFile('sub/weights');
        if (code === 'IMPORTED') findings.push('Weights from outside the import roots were imported through a link.');
        else if (!['FORMAT_INVALID', 'IMPORT_PATH_NOT_ALLOWED', 'IMPORT_PATH_NOT_FOUND'].includes(code))
          findings.push(`A folder that is swapped with a link was answered with ${code}.`);
        if (findings.length > 0) break;
      }
    } finally {
      exchanger.kill('SIGKILL');
    }

    const codes = await Promise.all(
      ['pipe', 'holes', 'holes', 'pipe', '.', '../admin-key', '../../../../../../etc/passwd'].map(importFile),
    );
    for (const code of codes) {
      if (!['FORMAT_INVALID', 'IMPORT_PATH_NOT_ALLOWED', 'IMPORT_PATH_NOT_FOUND'].includes(code))
        findings.push(`A pipe, a sparse file or a path out of the roots was answered with ${code}.`);
    }
    const fault = await server.fault();
    if (fault !== undefined) findings.push(fault);
    return { tryCount, findings, remarks: started ? [] : ['No folder was swapped: Perl is not installed.'] };
  },
};
