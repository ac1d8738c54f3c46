/** The tree of commands. A command's code is loaded when it runs, so that help appears at once. */
import { Command, type CommandUnknownOpts } from '@commander-js/extra-typings';
import { datasetCommands } from './client/datasets.ts';
import { embedCommand } from './client/embed.ts';
import { compareCommand, evaluateCommand, leaderboardCommand } from './client/evaluate.ts';
import { keyCommands } from './client/keys.ts';
import { modelCommands } from './client/models.ts';
import { pretrainCommand } from './client/pretrain.ts';
import { runCommands } from './client/runs.ts';
import { downloadCommand, verifyCommand } from './client/weights.ts';
import { workerCommands } from './client/workers.ts';
import { completionCommand } from './completion.ts';
import {
  artifactsCommand,
  auditCommand,
  backupCommand,
  fsckCommand,
  gcCommand,
  restoreCommand,
  uploadsCommand,
} from './maintenance-commands.ts';
import {
  demoCommand,
  doctorCommand,
  engineCommand,
  launcherCommand,
  serveCommand,
  slideCommands,
  tissueCommand,
  workerCommand,
} from './machine-commands.ts';

const AFTER_HELP = `
Start with:
  $ paraffin demo                     everything once, on this machine
  $ paraffin serve                    then, in another terminal:
  $ paraffin datasets ls --organ breast --stain he

"paraffin <command> --help" shows details and examples. Commands use the server of
--url, of PARAFFIN_URL, or of this machine, with the key of PARAFFIN_API_KEY or of this machine's data directory. Results go to standard output, everything else to standard error.

Exit codes: 0 success; 1 failure, with the reason in the message; 2 invalid arguments; 3 a digest is wrong or a file is damaged;
4 the run that was waited for failed or was canceled; 5 a one-shot worker's run is queued again; 6 it did not take its run; 130 Ctrl-C.`;

/** @param version of the program. */
export function createProgram(version: string): CommandUnknownOpts {
  const program = new Command('paraffin')
    .description('A registry of histopathology datasets and pretrained encoders that can also make them.')
    .version(version, '-V, --version', 'print the version of Paraffin')
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText('after', AFTER_HELP);
  const groups: readonly (readonly [title: string, commands: readonly CommandUnknownOpts[]])[] = [
    [
      'On this machine:',
      [
        serveCommand,
        workerCommand,
        launcherCommand,
        doctorCommand,
        demoCommand,
        engineCommand,
        slideCommands,
        tissueCommand,
      ],
    ],
    ['Datasets and models:', [datasetCommands(), modelCommands(), downloadCommand, verifyCommand]],
    ['Work:', [pretrainCommand, evaluateCommand, embedCommand, compareCommand, leaderboardCommand, runCommands()]],
    [
      'Operating a registry:',
      [
        keyCommands(),
        workerCommands(),
        backupCommand,
        restoreCommand,
        fsckCommand,
        gcCommand,
        artifactsCommand,
        uploadsCommand,
        auditCommand,
      ],
    ],
    ['Shell:', [completionCommand(() => program)]],
  ];
  for (const [title, commands] of groups) for (const each of commands) program.addCommand(each.helpGroup(title));
  forEachCommand(program, (each) => {
    each
      .exitOverride()
      .showHelpAfterError('Add --help to see the options.')
      .configureHelp({ subcommandTerm: (child) => child.name() });
  });
  return program;
}

function forEachCommand(node: CommandUnknownOpts, visit: (node: CommandUnknownOpts) => void): void {
  visit(node);
  for (const child of node.commands) forEachCommand(child, visit);
}
