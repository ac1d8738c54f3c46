/** The jobs of Slurm or Kubernetes that were asked to carry a run. */
import { instant, words } from '../../ui/format.ts';
import type { RunDetail } from './queries.ts';

/** The table of jobs, the newest first; nothing for a run that no launcher placed. */
export function Placements({ run }: { readonly run: RunDetail }) {
  if (run.placements.length === 0) return null;
  return (
    <section className="sheet" aria-labelledby="placements">
      <h2 id="placements">Jobs on the cluster</h2>
      <div className="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Job</th>
              <th scope="col">For attempt</th>
              <th scope="col">State</th>
              <th scope="col">Submitted</th>
              <th scope="col">Started</th>
              <th scope="col">Ended</th>
            </tr>
          </thead>
          <tbody>
            {run.placements.map((placement) => (
              <tr key={placement.id}>
                <th scope="row">
                  {placement.launcher} {placement.externalId ?? ''}
                </th>
                <td>{placement.attempt}</td>
                <td title={words(placement.state)}>{placement.sentence}</td>
                <td>{shown(placement.submittedAt)}</td>
                <td>{shown(placement.startedAt)}</td>
                <td>{shown(placement.endedAt)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function shown(at: string | null): string {
  return at === null ? '' : instant(at);
}
