/** Keys and open sessions, for an ADMIN: their permissions and when they end. */
import { useState, type SyntheticEvent } from 'react';
import { USER_ERROR_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';
import { useGraphQLQuery, useGraphQLMutation } from '../../api/hooks.ts';
import { oneOf } from '../../app/search.ts';
import { instant } from '../../ui/format.ts';
import { CopyButton, Failure, Loaded, Refusals, Tag, useTitle } from '../../ui/parts.tsx';

const KEYS = graphql(`
  query Keys {
    keys(first: 200) {
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
const CREATE_KEY = graphql(
  `
    mutation CreateKey($input: CreateKeyInput!) {
      createKey(input: $input) {
        key {
          id
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
const REVOKE_KEY = graphql(
  `
    mutation RevokeKey($id: ID!) {
      revokeKey(id: $id) {
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);
const SESSIONS = graphql(`
  query Sessions {
    sessions(first: 200) {
      totalCount
      nodes {
        id
        key {
          name
          owner
        }
        address
        createdAt
        lastUsedAt
        expiresAt
      }
    }
  }
`);
const REVOKE_SESSION = graphql(
  `
    mutation RevokeSession($id: ID!) {
      revokeSession(id: $id) {
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);
const ROLES = ['READER', 'CONTRIBUTOR', 'OPERATOR', 'ADMIN'] as const;

type AccessKey = ResultOf<typeof KEYS>['keys']['nodes'][number];

export function KeysPage() {
  useTitle('Keys');
  const keys = useGraphQLQuery(KEYS, {});
  return (
    <>
      <div className="head">
        <h1>Keys</h1>
        <p className="soft">
          Access keys and sessions. A key is shown only when it is created; the server stores only its hash.
        </p>
      </div>
      <Loaded of={keys}>
        {(data) => (
          <div className="columns">
            <section className="sheet" aria-labelledby="keys">
              <h2 id="keys">All keys</h2>
              <KeyTable keys={data.keys.nodes} />
            </section>
            <NewKey />
          </div>
        )}
      </Loaded>
      <Sessions />
    </>
  );
}

function KeyTable({ keys }: { readonly keys: readonly AccessKey[] }) {
  const revoke = useGraphQLMutation(REVOKE_KEY);
  return (
    <>
      {revoke.isError && <Failure error={revoke.error} />}
      <Refusals errors={revoke.data?.revokeKey.userErrors ?? []} />
      <div className="scroll" tabIndex={0} role="region" aria-label="Keys">
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Owner</th>
              <th scope="col">Role</th>
              <th scope="col">Last used</th>
              <th scope="col">Expires</th>
              <th scope="col">
                <span className="hidden">Revoke</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {keys.map((key) => (
              <tr key={key.id}>
                <td>
                  {key.name}
                  <div className="soft small">{[...key.actions, ...key.resources].join(', ')}</div>
                </td>
                <td>{key.owner}</td>
                <td>
                  <Tag>{key.role.toLowerCase()}</Tag>
                </td>
                <td className="small">{key.lastUsedAt === null ? 'never' : instant(key.lastUsedAt)}</td>
                <td className="small">{key.expiresAt === null ? 'never' : instant(key.expiresAt)}</td>
                <td>
                  {key.revokedAt === null ? (
                    <button
                      type="button"
                      className="danger"
                      aria-label={`Revoke ${key.name}`}
                      onClick={() => revoke.mutate({ id: key.id })}
                    >
                      Revoke
                    </button>
                  ) : (
                    <Tag tone="bad">revoked</Tag>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Sessions() {
  const sessions = useGraphQLQuery(SESSIONS, {});
  const revoke = useGraphQLMutation(REVOKE_SESSION);
  // The page already shows why the keys cannot be listed.
  if (sessions.isError && sessions.data === undefined) return null;
  return (
    <section className="sheet" aria-labelledby="sessions">
      <h2 id="sessions">Signed in</h2>
      {revoke.isError && <Failure error={revoke.error} />}
      <Refusals errors={revoke.data?.revokeSession.userErrors ?? []} />
      <Loaded of={sessions}>
        {({ sessions: { nodes, totalCount } }) =>
          nodes.length === 0 ? (
            <p className="soft">No open sessions.</p>
          ) : (
            <div className="scroll" tabIndex={0} role="region" aria-label="Sessions">
              <table>
                <thead>
                  <tr>
                    <th scope="col">Key</th>
                    <th scope="col">Owner</th>
                    <th scope="col">From</th>
                    <th scope="col">Signed in</th>
                    <th scope="col">Last used</th>
                    <th scope="col">Ends</th>
                    <th scope="col">
                      <span className="hidden">Sign out</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {nodes.map((session) => (
                    <tr key={session.id}>
                      <td>{session.key.name}</td>
                      <td>{session.key.owner}</td>
                      <td className="small">{session.address ?? 'not known'}</td>
                      <td className="small">{instant(session.createdAt)}</td>
                      <td className="small">{session.lastUsedAt === null ? 'never' : instant(session.lastUsedAt)}</td>
                      <td className="small">{instant(session.expiresAt)}</td>
                      <td>
                        <button
                          type="button"
                          className="danger"
                          aria-label={`Sign out ${session.key.name}`}
                          onClick={() => revoke.mutate({ id: session.id })}
                        >
                          Sign out
                        </button>
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
              {totalCount > nodes.length && (
                <p className="soft small">
                  The newest {nodes.length} of {totalCount}.
                </p>
              )}
            </div>
          )
        }
      </Loaded>
    </section>
  );
}

function NewKey() {
  const create = useGraphQLMutation(CREATE_KEY);
  const [role, setRole] = useState<(typeof ROLES)[number]>('READER');
  const submit = (event: SyntheticEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    create.mutate({ input: { name: String(form.get('name')), owner: String(form.get('owner')), role } });
  };
  const secret = create.data?.createKey.secret;
  return (
    <form className="sheet" onSubmit={submit}>
      <h2>New key</h2>
      <div className="field">
        <label htmlFor="key-name">Purpose</label>
        <input id="key-name" name="name" required placeholder="notebook on the microscope" />
      </div>
      <div className="field">
        <label htmlFor="key-owner">Responsible person</label>
        <input id="key-owner" name="owner" required />
      </div>
      <div className="field">
        <label htmlFor="key-role">Role</label>
        <select id="key-role" value={role} onChange={(event) => setRole(oneOf(ROLES, event.target.value) ?? 'READER')}>
          {ROLES.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </div>
      <button type="submit" className="primary" disabled={create.isPending}>
        Create key
      </button>
      {create.isError && <Failure error={create.error} />}
      <Refusals errors={create.data?.createKey.userErrors ?? []} />
      {secret != null && (
        <div className="notice good" role="status">
          <strong>Shown only this once:</strong>
          <code className="wrap">{secret}</code>
          <CopyButton text={secret} />
        </div>
      )}
    </form>
  );
}
