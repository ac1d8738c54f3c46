/** `paraffin completion`: completion scripts for shells, generated from the tree of commands. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { command, oneOf } from './command.ts';

const SHELLS: Readonly<Record<'BASH' | 'ZSH' | 'FISH', true>> = { BASH: true, ZSH: true, FISH: true };

/** What may follow a path of commands, e.g. `["datasets"]`. */
interface Place {
  readonly path: readonly string[];
  readonly words: readonly { readonly word: string; readonly summary: string }[];
}

/** @param program a function, because the command is itself part of the program. */
export function completionCommand(program: () => CommandUnknownOpts) {
  return command('completion', {
    summary: 'print a completion script for bash, zsh or fish',
    details:
      'Prints a completion script. It completes the command paraffin, which "npm link" in the clone puts on the path.',
    examples: [
      'completion bash > ~/.local/share/bash-completion/completions/paraffin',
      'completion zsh >> ~/.zshrc',
      'completion fish > ~/.config/fish/completions/paraffin.fish',
    ],
  })
    .argument('<shell>', 'bash, zsh, fish', oneOf(SHELLS))
    .action((shell) => {
      const places = placesOf(program());
      if (shell === 'ZSH') process.stdout.write('autoload -U +X bashcompinit && bashcompinit\n');
      process.stdout.write(shell === 'FISH' ? fishScript(places) : bashScript(places));
    });
}

function placesOf(node: CommandUnknownOpts, path: readonly string[] = []): Place[] {
  const commands = node.commands.map((child) => ({ word: child.name(), summary: child.summary() }));
  const options = node.options.map((option) => ({
    word: option.long ?? option.short ?? '',
    summary: option.description,
  }));
  const help = { word: '--help', summary: 'show the description and examples' };
  return [
    { path, words: [...commands, ...options, help] },
    ...node.commands.flatMap((child) => placesOf(child, [...path, child.name()])),
  ];
}

function bashScript(places: readonly Place[]): string {
  const inner = places.filter(({ path }) => path.length > 0);
  return `_paraffin() {
  local at="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at $word" in
      ${inner.map(({ path }) => `" ${path.join(' ')}"`).join('|')}) at="$at $word" ;;
    esac
  done
  local words=""
  case "$at" in
${places.map(({ path, words }) => `    "${path.map((word) => ` ${word}`).join('')}") words="${words.map(({ word }) => word).join(' ')}" ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _paraffin paraffin
`;
}

function fishScript(places: readonly Place[]): string {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  return places
    .flatMap(({ path, words }) => {
      const [first, second] = path;
      const children = words.filter(({ word }) => !word.startsWith('-')).map(({ word }) => word);
      const seen = path.map((word) => `__fish_seen_subcommand_from ${word}`);
      const condition =
        first === undefined
          ? '__fish_use_subcommand'
          : [
              ...seen,
              ...(second === undefined && children.length > 0
                ? [`not __fish_seen_subcommand_from ${children.join(' ')}`]
                : []),
            ].join('; and ');
      return words.map(
        ({ word, summary }) =>
          `complete -c paraffin -n ${quoted(condition)} ${word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`} -d ${quoted(summary)}`,
      );
    })
    .join('\n')
    .concat('\n');
}
