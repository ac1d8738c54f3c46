/** `paraffin keys`: lists, creates and revokes access keys. For an ADMIN. */
import type { Command } from '@commander-js/extra-typings';
import { group, listOf, namesOf, numberFrom, oneOf, texts } from '../command.ts';
import { table } from '../terminal.ts';
import { clientCommand, connect, granted } from './connection.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { paint, show } from './output.ts';

const LIST = graphql(`
  query ListKeys($filter: AccessKeyFilter) {
    keys(filter: $filter, first: 200) {
      nodes {
        id
        name
        owner
        role
        actions
        resources
        createdAt
        lastUsedAt
        expiresAt
        revokedAt
      }
    }
  }
`);
const ADD = graphql(
  `
    mutation AddKey($input: CreateKeyInput!) {
      createKey(input: $input) {
        key {
          id
          name
          owner
          role
          expiresAt
        }
        secret
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);
const REVOKE = graphql(
  `
    mutation RevokeKey($id: ID!) {
      revokeKey(id: $id) {
        key {
          id
          name
          revokedAt
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

type Input = VariablesOf<typeof ADD>['input'];
const ROLES: Readonly<Record<Input['role'], true>> = { READER: true, CONTRIBUTOR: true, OPERATOR: true, ADMIN: true };
const ACTIONS: Readonly<Record<NonNullable<Input['actions']>[number], true>> = {
  READ: true,
  CATALOGUE: true,
  IMPORT: true,
  LAUNCH: true,
  DELETE: true,
  ADMINISTER: true,
  WORK: true,
};

const listCommand = clientCommand('ls', {
  summary: 'list keys, newest first, without their secrets',
  examples: ['keys ls', 'keys ls --owner ana --all'],
})
  .option('--owner <name>', 'only keys of this person')
  .option('--all', 'include revoked and expired keys')
  .action(async ({ owner, all, ...options }) => {
    const { keys } = await (
      await connect(options)
    ).ask(LIST, { filter: { ...(owner === undefined ? {} : { owner }), ...(all === true ? {} : { usable: true }) } });
    const rows = keys.nodes.map((key) => [
      key.id,
      key.name,
      key.owner,
      key.role,
      [...key.actions, ...key.resources].join(' '),
      key.lastUsedAt ?? 'never',
      key.revokedAt === null ? (key.expiresAt ?? 'never') : paint('red', `revoked ${key.revokedAt}`),
    ]);
    show(options, {
      data: keys.nodes,
      names: keys.nodes.map((key) => key.id),
      text: table(['key', 'name', 'owner', 'role', 'limited to', 'last used', 'ends'], rows),
    });
  });

const addCommand = clientCommand('add', {
  summary: 'create a key and print its secret, only this once',
  details:
    'Creates a key and prints its secret, only this once. With --quiet only the secret is printed, for example into a file.',
  examples: [
    'keys add "notebook on the microscope" --owner ana --role contributor',
    'keys add viewer --owner ana --role reader --days 30 --quiet > viewer.key',
    'keys add ci --owner lab --role operator --actions launch,read --resources "model:ci"',
  ],
})
  .argument('<name>', 'purpose of the key')
  .requiredOption('--owner <person>', 'person who is responsible for the key')
  .requiredOption('--role <role>', namesOf(ROLES).join(', '), oneOf(ROLES))
  .option(
    '--actions <actions>',
    `allow only these actions, within its role: ${namesOf(ACTIONS).join(', ')}`,
    listOf(oneOf(ACTIONS)),
  )
  .option('--resources <names>', 'allow changes only to these, e.g. dataset:bach,model:*', texts)
  .option('--days <count>', 'days until it expires, at most 36500 (default: a year)', numberFrom(0, 36_500))
  .action(async (name, { owner, role, actions, resources, days, ...options }) => {
    const { createKey } = await (
      await connect(options)
    ).ask(ADD, {
      input: {
        name,
        owner,
        role,
        ...(actions === undefined ? {} : { actions: [...actions] }),
        ...(resources === undefined ? {} : { resources: [...resources] }),
        ...(days === undefined ? {} : { expiresAt: new Date(Date.now() + days * 86_400_000).toISOString() }),
      },
    });
    const key = granted(createKey.key, createKey);
    const secret = createKey.secret ?? '';
    show(options, {
      data: { ...key, secret },
      names: [secret],
      text: `${paint('bold', secret)}\nKey ${key.id} of ${key.owner}, ${key.role}, ends ${key.expiresAt ?? 'never'}. The line above is shown only this once.`,
    });
  });

const revokeCommand = clientCommand('revoke', {
  summary: 'revoke a key permanently',
  examples: ['keys revoke 0198a7c2-…'],
})
  .argument('<key>', 'id')
  .action(async (id, options) => {
    const { revokeKey } = await (await connect(options)).ask(REVOKE, { id });
    const key = granted(revokeKey.key, revokeKey);
    show(options, { data: key, names: [key.id], text: `Key "${key.name}" is revoked.` });
  });

export function keyCommands(): Command {
  return group('keys', 'manage access keys (for an ADMIN)')
    .addCommand(listCommand)
    .addCommand(addCommand)
    .addCommand(revokeCommand);
}
