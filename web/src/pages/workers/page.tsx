/** Who executes runs: each worker with its devices, what it carries, and whether it is heard. */
import { Link } from '@tanstack/react-router';
import { USER_ERROR_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';
import { useGraphQLMutation, useGraphQLQuery } from '../../api/hooks.ts';
import { instant } from '../../ui/format.ts';
import { Failure, Loaded, Refusals, Tag, useTitle } from '../../ui/parts.tsx';

const WORKERS = graphql(`
  query Workers {
    workers {
      name
      version
      kinds
      devices
      places {
        capabilities {
          sentence
        }
      }
      isAlive
      isDraining
      lastHeardAt
      runs {
        id
        title
        progress
      }
    }
  }
`);
const DRAIN_WORKER = graphql(
  `
    mutation DrainWorker($name: String!, $isDraining: Boolean!) {
      drainWorker(name: $name, isDraining: $isDraining) {
        worker {
          name
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

/** A worker counts as silent after a minute. */
const POLL_EVERY_MS = 10_000;

type Worker = ResultOf<typeof WORKERS>['workers'][number];

export function WorkersPage() {
  useTitle('Workers');
  const workers = useGraphQLQuery(WORKERS, {}, { refetchMs: POLL_EVERY_MS });
  return (
    <>
      <div className="head">
        <h1>Workers</h1>
        <p className="soft">Programs that execute runs, on this machine and on others.</p>
      </div>
      <Loaded of={workers}>{(data) => <WorkerTable workers={data.workers} />}</Loaded>
    </>
  );
}

function WorkerTable({ workers }: { readonly workers: readonly Worker[] }) {
  const drain = useGraphQLMutation(DRAIN_WORKER);
  if (workers.length === 0)
    return (
      <p className="sheet">
        No worker was heard in the last week, so runs wait. <code>paraffin worker --help</code> says how to start one.
      </p>
    );
  return (
    <section className="sheet" aria-label="Workers">
      {drain.isError && <Failure error={drain.error} />}
      <Refusals errors={drain.data?.drainWorker.userErrors ?? []} />
      <div className="scroll" tabIndex={0} role="region" aria-label="Workers">
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">State</th>
              <th scope="col">Carries</th>
              <th scope="col">Devices</th>
              <th scope="col">Last heard</th>
              <th scope="col">
                <span className="hidden">Drain</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {workers.map((worker) => (
              <tr key={worker.name}>
                <td>
                  {worker.name}
                  <div className="soft small">
                    Paraffin {worker.version}: {worker.kinds.join(', ').toLowerCase()}
                  </div>
                </td>
                <td>
                  <StateTag worker={worker} />
                </td>
                <td>
                  {worker.runs.map(({ id, title, progress }) => (
                    <div key={id}>
                      <Link to="/runs/$id" params={{ id }}>
                        {title}
                      </Link>{' '}
                      <span className="soft small">{Math.floor(100 * progress)} %</span>
                    </div>
                  ))}
                </td>
                <td className="small">
                  {worker.devices.join(', ')}
                  {[...new Set(worker.places.map(({ capabilities }) => capabilities.sentence))].map((text) => (
                    <div key={text} className="soft">
                      {text}
                    </div>
                  ))}
                </td>
                <td className="small">{instant(worker.lastHeardAt)}</td>
                <td>
                  <button
                    type="button"
                    aria-label={`${worker.isDraining ? 'Let take runs again:' : 'Drain'} ${worker.name}`}
                    onClick={() => drain.mutate({ name: worker.name, isDraining: !worker.isDraining })}
                  >
                    {worker.isDraining ? 'Take runs again' : 'Drain'}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function StateTag({ worker }: { readonly worker: Worker }) {
  if (!worker.isAlive) return <Tag tone="bad">silent</Tag>;
  return <Tag>{worker.isDraining ? 'draining' : 'alive'}</Tag>;
}
