/** The training states that a pretraining keeps. */
import { useGraphQLMutation } from '../../api/hooks.ts';
import { count, instant, score } from '../../ui/format.ts';
import { CheckpointLink } from '../../ui/links.tsx';
import { Failure, Refusals, Tag } from '../../ui/parts.tsx';
import { REGISTER_STATE, type RunDetail } from './queries.ts';

/** The table of kept states: each can become a checkpoint of the model. */
export function KeptStates({ run }: { readonly run: RunDetail }) {
  const register = useGraphQLMutation(REGISTER_STATE);
  if (run.trainingStates.length === 0) return null;
  return (
    <section className="sheet" aria-labelledby="states">
      <h2 id="states">Kept states</h2>
      <div className="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Step</th>
              <th scope="col">Kept</th>
              <th scope="col">Probe, linear</th>
              <th scope="col">Checkpoint</th>
            </tr>
          </thead>
          <tbody>
            {run.trainingStates.map((state) => (
              <tr key={state.step}>
                <th scope="row">{count(state.step)}</th>
                <td>{instant(state.keptAt)}</td>
                <td>
                  {state.probe === null ? 'not probed' : score(state.probe.ridgeMacroF1)}{' '}
                  {state.isBest && <Tag tone="good">best</Tag>}
                </td>
                <td>
                  {state.checkpoint === null ? (
                    <button
                      type="button"
                      onClick={() => register.mutate({ input: { runId: run.id, step: state.step } })}
                      disabled={register.isPending}
                    >
                      Register this state
                    </button>
                  ) : (
                    <CheckpointLink checkpoint={state.checkpoint} />
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {register.isError && <Failure error={register.error} />}
      <Refusals errors={[...(register.data?.registerTrainingState.userErrors ?? [])]} />
    </section>
  );
}
