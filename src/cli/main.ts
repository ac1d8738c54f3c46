/** The `paraffin` command. Each command has a file of its own; this one finds it and prints what went wrong. */
import { DomainError } from '../errors.ts';
import { EnvironmentError } from '../env.ts';
import { EngineLibraryError } from '../platform/engine-library.ts';

interface Command {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<(args: string[]) => Promise<number>>;
}

const COMMANDS: readonly Command[] = [
  { name: 'serve', summary: 'the registry with one worker, until stopped (npm start)', load: async () => (await import('./serve.ts')).serveCommand },
  { name: 'demo', summary: 'the whole story once: import, pretrain, evaluate, download (npm run demo)', load: async () => (await import('./demo/command.ts')).demoCommand },
  { name: 'engine', summary: 'fetch and build the TensorFlow engine (npm run engine)', load: async () => (await import('./engine.ts')).engineCommand },
  { name: 'audit', summary: 'hold the audit log against its own hashes', load: async () => (await import('./audit.ts')).auditCommand },
  { name: 'tissue', summary: 'draw tissue-like SYNTHETIC images for trying things out', load: async () => (await import('./tissue-command.ts')).tissueCommand },
  { name: 'fsck', summary: 'read every stored file again and put aside what has changed', load: async () => (await import('./fsck.ts')).fsckCommand },
  { name: 'backup', summary: 'database and stored bytes of one instant into one file', load: async () => (await import('./backup.ts')).backupCommand },
  { name: 'restore', summary: 'a backup becomes a registry again, in an empty place', load: async () => (await import('./restore.ts')).restoreCommand },
  { name: 'gc', summary: 'take away stored bytes that nothing cites', load: async () => (await import('./gc.ts')).gcCommand },
];

const HELP = `Paraffin: a registry of histopathology datasets and encoders.

usage: npm run paraffin -- <command> [options]

${COMMANDS.map((command) => `  ${command.name.padEnd(8)} ${command.summary}`).join('\n')}

  npm run paraffin -- <command> --help   tells more about one

examples:
  npm start
  npm run demo -- --data ~/images
  npm run paraffin -- tissue --out .paraffin/imports/tissue
`;

async function main(): Promise<number> {
  const [name, ...args] = process.argv.slice(2);
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(HELP);
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command === undefined) {
    process.stderr.write(`There is no command "${name}".\n\n${HELP}`);
    return 2;
  }
  return (await command.load())(args);
}

function explain(error: unknown): string {
  if (error instanceof DomainError || error instanceof EngineLibraryError) return `${error.message}${error.hint === undefined ? '' : `\n${error.hint}`}`;
  if (error instanceof EnvironmentError) return error.message;
  if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) return `${error.message}\nAdd --help to see the options.`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 1;
}
