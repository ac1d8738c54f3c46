/** Two runs side by side: their charts, and where their configs differ. */
import { Link } from '@tanstack/react-router';
import { inside, short } from '../../ui/format.ts';
import { Charts, type WatchedRun } from './charts.tsx';
import { Status } from './words.tsx';

export function SideBySide({ first, second }: { readonly first: WatchedRun; readonly second: WatchedRun }) {
  const rows = differences(first.run.config, second.run.config);
  return (
    <>
      <div className="head">
        <span className="crumbs">
          <Link to="/runs" search={{}}>
            Runs
          </Link>{' '}
          / side by side
        </span>
        <h1>Two runs side by side</h1>
        {[first, second].map(({ run }, index) => (
          <p key={run.id}>
            {index === 0 ? 'First' : 'Second'}:{' '}
            <Link to="/runs/$id" params={{ id: run.id }}>
              {run.title}
            </Link>{' '}
            <Status status={run.status} />
          </p>
        ))}
      </div>
      <Charts runs={[first, second]} />
      <section className="sheet" aria-labelledby="differences">
        <h2 id="differences">Where they differ</h2>
        {rows.length === 0 ? (
          <p className="soft">The settings of the two runs are equal.</p>
        ) : (
          <div className="scroll">
            <table>
              <thead>
                <tr>
                  <th scope="col">Setting</th>
                  <th scope="col">First</th>
                  <th scope="col">Second</th>
                </tr>
              </thead>
              <tbody>
                {rows.map(({ name, values: [left, right] }) => (
                  <tr key={name}>
                    <th scope="row">{name}</th>
                    <td className="mono wrap">{left}</td>
                    <td className="mono wrap">{right}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
    </>
  );
}

function differences(
  first: unknown,
  second: unknown,
): { readonly name: string; readonly values: readonly [string, string] }[] {
  const names = [
    ...new Set(
      [first, second].flatMap((config) => (typeof config === 'object' && config !== null ? Object.keys(config) : [])),
    ),
  ];
  return names.flatMap((name) => {
    const [left, right] = [inside(first, name), inside(second, name)].map((value) =>
      typeof value === 'number' ? short(value) : (JSON.stringify(value) ?? ''),
    );
    return left === undefined || right === undefined || left === right ? [] : [{ name, values: [left, right] }];
  });
}
