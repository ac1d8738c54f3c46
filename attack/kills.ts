/** Long operations of the command line that are killed at random moments: nothing of them may stay. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { childEnvironment } from '../src/env.ts';
import { lightningFile, someEncoder } from '../test/support/encoder-files.ts';
import { eventually } from '../test/support/eventually.ts';
import { familyOf, identityOf } from '../test/support/processes.ts';
import { oneOf, type Attack } from './attack.ts';

const PARAFFIN = path.resolve(import.meta.dirname, '../src/cli/main.ts');
/** About the duration of a restore of a small registry. */
const KILL_WINDOW_MS = 8_000;
const CLEANUP_DEADLINE_MS = 60_000;
const CONTRACT = ['--image-size', '64', '--mean', '0.5,0.5,0.5', '--std', '0.5,0.5,0.5'];

export const kills: Attack = {
  name: 'kills',
  about:
    'backups, restores, checks, garbage collections and uploads killed at random moments by SIGKILL, SIGTERM and SIGINT, and what they leave behind',
  share: 12,
  run: async ({ quick, random, startServer, folder, isTimeLeft }) => {
    const server = await startServer({ env: { PARAFFIN_LOG_LEVEL: 'fatal' } });
    const home = await folder();
    const findings: string[] = [];
    let tryCount = 0;
    const start = (...args: readonly string[]) =>
      spawn(process.execPath, [PARAFFIN, ...args], {
        env: childEnvironment({
          PARAFFIN_DATABASE_URL: '',
          PARAFFIN_DATA_DIR: server.dataDir,
          PARAFFIN_URL: server.url,
          PARAFFIN_API_KEY: server.adminKey,
          XDG_CACHE_HOME: home,
        }),
        stdio: 'ignore',
      });
    const weights = path.join(home, 'weights.ckpt');
    if (!quick) await writeFile(weights, lightningFile(someEncoder('RESNET18'), ''));
    const whole = path.join(home, 'whole.tar');
    const [code] = await once(start('backup', whole), 'exit');
    if (code !== 0) return { tryCount: 1, findings: [`A backup of a running server ended with ${code}.`] };

    for (let round = quick ? 1 : 20; round > 0 && (quick || isTimeLeft()) && findings.length === 0; round -= 1) {
      // Only a backup and a restore write files here, a separate folder for each, because an operation that finished
      // before the kill leaves its result. What the others do to the registry is checked at the end.
      const placeOf = (operation: string): string => path.join(home, `${operation}-${round}`);
      const operations = [
        ['backup', path.join(placeOf('backup'), 'registry.tar')],
        ['restore', whole, '--data-dir', path.join(placeOf('restore'), 'restored')],
        ['fsck'],
        ['gc', '--grace-hours', '0'],
        ['models', 'import', weights, ...CONTRACT, '--model', `killed-${round}`],
      ];
      for (const args of quick ? operations.slice(0, 2) : operations) {
        tryCount += 1;
        const place = placeOf(args[0] ?? '');
        const command = start(...args);
        const gone = once(command, 'exit');
        const signal = oneOf<NodeJS.Signals>(['SIGKILL', 'SIGTERM', 'SIGINT'], random);
        const ms = Math.round(random() * KILL_WINDOW_MS);
        await Promise.race([pause(ms), gone]);
        const isEnded = command.exitCode !== null || command.signalCode !== null;
        const family = isEnded ? new Map<number, string>() : await identitiesOfFamily(command.pid);
        if (!isEnded) command.kill(signal);
        await gone;
        // It finished before the kill, so its result is complete, and is not examined.
        if (command.exitCode === 0) continue;
        const what = `A ${args[0]} that was ended by ${signal} after ${ms} ms`;
        const isClean = await eventually(
          'all processes and files to be removed',
          async () => ((await leftBy(place, family)).length === 0 ? true : undefined),
          CLEANUP_DEADLINE_MS,
        ).catch(() => false);
        if (!isClean) findings.push(`${what} left ${(await leftBy(place, family)).join(', ')}.`);
      }
    }
    // After all kills an import, a garbage collection and a check of the same registry must succeed.
    for (const args of quick
      ? []
      : [['models', 'import', weights, ...CONTRACT, '--model', 'killed'], ['gc'], ['fsck']]) {
      tryCount += 1;
      const [ended] = await once(start(...args), 'exit');
      if (ended !== 0) findings.push(`After kills "paraffin ${args.slice(0, 2).join(' ')}" ended with ${ended}.`);
    }
    const fault = await server.fault();
    if (fault !== undefined) findings.push(fault);
    return { tryCount, findings };
  },
};

/** Identities of a process and of all that it started. */
async function identitiesOfFamily(pid: number | undefined): Promise<ReadonlyMap<number, string>> {
  const family = new Map<number, string>();
  for (const member of pid === undefined ? [] : await familyOf(pid)) {
    const identity = await identityOf(member);
    if (identity !== undefined) family.set(member, identity);
  }
  return family;
}

/** Files of a killed backup or restore, command lines that name its folder, and living processes of its family. */
async function leftBy(place: string, family: ReadonlyMap<number, string>): Promise<string[]> {
  const living: string[] = [];
  for (const [pid, identity] of family) if ((await identityOf(pid)) === identity) living.push(`process ${pid}`);
  return [...(await filesIn(place)), ...(await processesOn(place)), ...living].slice(0, 6);
}

async function filesIn(place: string): Promise<string[]> {
  const names = await readdir(place, { recursive: true }).catch(() => []);
  // The target of a restore may stay as an empty folder, and a backup that was complete at that moment has its final
  // name already.
  return names.filter((name) => name !== 'restored' && name !== 'registry.tar');
}

/** Command lines of living processes that contain the path. */
async function processesOn(place: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(place)).map((line) => line.replaceAll('\0', ' ').slice(0, 80));
}
