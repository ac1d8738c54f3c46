/** The page "New run": a form generated from the schema, and the GraphQL that it sends. */
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState, type SyntheticEvent } from 'react';
import { LAUNCHES } from '../../app/choices.ts';
import { send } from '../../api/client.ts';
import { useInvalidateQueries } from '../../api/hooks.ts';
import { useViewer } from '../../api/viewer.ts';
import { Failure, Loaded, Refusals, Snippet, useTitle, type UserErrorFacts } from '../../ui/parts.tsx';
import { Field } from './fields.tsx';
import { fill, inputTypes, labelOf, type InputField, type InputTypes } from './schema.ts';

const newRoute = getRouteApi('/new');

type LaunchName = (typeof LAUNCHES)[number];

interface Launch {
  readonly title: string;
  readonly input: string;
  readonly meaning: string;
  /** The payload's field that the mutation returns; `fields` selects from it. */
  readonly resultField: 'run' | 'dataset' | 'checkpoint';
  readonly fields: string;
  /** Fields that are shown first; all others are under "More". */
  readonly first: readonly string[];
  /** The API has defaults for these fields. If the form leaves them empty, it sends null, and the server chooses. */
  readonly nullWhenEmpty?: readonly string[];
  /** Fields that depend on a field of choices. */
  readonly dependsOn?: {
    readonly field: string;
    /** The choices with which the API accepts a field; it is not shown with others. */
    readonly shownFor: Readonly<Record<string, readonly string[]>>;
    /** The choices with which the API needs a field. */
    readonly neededFor: Readonly<Record<string, readonly string[]>>;
  };
}

const RUN_FIELDS = 'run { id }';

const LAUNCH_FORMS: Readonly<Record<LaunchName, Launch>> = {
  launchPretraining: {
    title: 'Pretrain',
    input: 'LaunchPretrainingInput',
    meaning: 'Train an encoder on images without labels.',
    resultField: 'run',
    fields: RUN_FIELDS,
    first: [
      'modelSlug',
      'datasets',
      'encoder',
      'method',
      'budget',
      'epochs',
      'steps',
      'recipe',
      'imageSizePx',
      'batchSize',
      'optimizer',
    ],
    nullWhenEmpty: ['imageSizePx', 'batchSize', 'temperature', 'precision'],
  },
  launchEvaluation: {
    title: 'Evaluate',
    input: 'LaunchEvaluationInput',
    meaning: 'Measure an encoder on labelled images, with intervals and baselines.',
    resultField: 'run',
    fields: RUN_FIELDS,
    first: ['checkpointId', 'datasetVersionId', 'protocol', 'folds'],
  },
  launchEmbedding: {
    title: 'Embed',
    input: 'LaunchEmbeddingInput',
    meaning:
      'Compute the embedding of every image by an encoder and keep them: for slides, for downloads, for evaluations.',
    resultField: 'run',
    fields: RUN_FIELDS,
    first: ['checkpointId', 'datasetVersionId'],
  },
  importDatasetVersion: {
    title: 'Import images',
    input: 'ImportDatasetVersionInput',
    meaning: 'Import a folder of the server as a sealed version of a dataset.',
    resultField: 'run',
    fields: RUN_FIELDS,
    first: ['datasetId', 'layout', 'path', 'labelsCsvPath', 'patchSizePx', 'slides', 'dryRun'],
    dependsOn: {
      field: 'layout',
      shownFor: {
        labelsCsvPath: ['CSV', 'SLIDES'],
        csvColumns: ['CSV'],
        labelLevel: ['FOLDER_PER_LABEL'],
        groupLevel: ['FOLDER_PER_LABEL', 'FLAT'],
        slides: ['SLIDES'],
        sampleBits: ['FOLDER_PER_LABEL', 'CSV', 'FLAT'],
      },
      neededFor: { labelsCsvPath: ['CSV'], slides: ['SLIDES'], patchSizePx: ['SLIDES'] },
    },
  },
  createDataset: {
    title: 'New dataset',
    input: 'CreateDatasetInput',
    meaning: 'Add a dataset to the catalogue; import its images afterwards.',
    resultField: 'dataset',
    fields: 'dataset { slug }',
    first: ['name', 'imageKind', 'organs', 'stains', 'tasks', 'synthetic'],
  },
  importCheckpoint: {
    title: 'Import weights',
    input: 'ImportCheckpointInput',
    meaning: 'Import external weights with strict mapping of names, without executing the file.',
    resultField: 'checkpoint',
    fields: 'checkpoint { version model { slug } }',
    first: ['publishedCheckpoint', 'modelSlug', 'path', 'url', 'inputContract'],
  },
};

export function NewRunPage() {
  useTitle('New run');
  const search = newRoute.useSearch();
  const what = search.what ?? 'launchPretraining';
  const types = useQuery({ queryKey: ['input types'], queryFn: inputTypes, staleTime: Infinity });
  const viewer = useViewer();
  return (
    <>
      <div className="head">
        <h1>New run</h1>
        {viewer === null && (
          <div className="notice warn">
            <span>
              Every change needs a key:{' '}
              <Link to="/sign-in" search={{ from: location.pathname + location.search }}>
                sign in
              </Link>{' '}
              first.
            </span>
          </div>
        )}
      </div>
      <nav className="tabs" aria-label="What to do">
        {LAUNCHES.map((name) => (
          <Link
            key={name}
            to="/new"
            search={{ what: name }}
            className={name === what ? 'active' : ''}
            aria-current={name === what ? 'page' : undefined}
          >
            {LAUNCH_FORMS[name].title}
          </Link>
        ))}
      </nav>
      <Loaded of={types}>{(known) => <Form key={what} name={what} types={known} preset={search} />}</Loaded>
    </>
  );
}

interface Done {
  readonly run?: { readonly id: string } | null;
  readonly dataset?: { readonly slug: string } | null;
  readonly checkpoint?: { readonly version: number; readonly model: { readonly slug: string } } | null;
  readonly userErrors: readonly UserErrorFacts[];
}

function Form({
  name,
  types,
  preset,
}: {
  readonly name: LaunchName;
  readonly types: InputTypes;
  readonly preset: Readonly<Record<string, string | undefined>>;
}) {
  const launch = LAUNCH_FORMS[name];
  const rank = (field: InputField): number =>
    launch.first.includes(field.name) ? launch.first.indexOf(field.name) : launch.first.length;
  const [texts, setTexts] = useState<Readonly<Record<string, string>>>(() => presetTexts(name, preset));
  const allFields = types.get(launch.input)?.inputFields ?? [];
  const { dependsOn } = launch;
  const choice =
    dependsOn === undefined
      ? ''
      : texts[dependsOn.field] || (allFields.find(({ name: field }) => field === dependsOn.field)?.defaultValue ?? '');
  const fields = allFields
    .filter((field) => field.name !== 'idempotencyKey')
    .flatMap((field): readonly InputField[] => {
      if (launch.nullWhenEmpty?.includes(field.name) === true)
        return [{ ...field, defaultValue: null, isNullWhenEmpty: true }];
      if (dependsOn?.shownFor[field.name]?.includes(choice) === false) return [];
      const isNeeded = dependsOn?.neededFor[field.name]?.includes(choice) === true;
      return [isNeeded ? { ...field, type: { kind: 'NON_NULL', name: null, ofType: field.type } } : field];
    });
  const [refusals, setRefusals] = useState<readonly UserErrorFacts[]>([]);
  const [failure, setFailure] = useState<Error>();
  const [isSending, setSending] = useState(false);
  const navigate = newRoute.useNavigate();
  const invalidateQueries = useInvalidateQueries();

  const { values, lines, faults } = fill(fields, texts, types);
  const document = `mutation {\n  ${name}(input: {${lines.length === 0 ? '' : `\n${lines.map((line) => `    ${line}`).join('\n')}\n  `}}) {\n    ${launch.fields}\n    userErrors { code field message hint }\n  }\n}`;

  const submit = async (event: SyntheticEvent): Promise<void> => {
    event.preventDefault();
    setSending(true);
    setFailure(undefined);
    try {
      const query = `mutation ($input: ${launch.input}!) { ${name}(input: $input) { ${launch.fields} userErrors { code field message hint } } }`;
      const answer = await send<Readonly<Record<string, Done>>>(query, { input: values });
      const done = answer[name];
      setRefusals(done?.userErrors ?? []);
      invalidateQueries();
      if (done?.run != null) await navigate({ to: '/runs/$id', params: { id: done.run.id } });
      else if (done?.dataset != null) await navigate({ to: '/datasets/$slug', params: { slug: done.dataset.slug } });
      else if (done?.checkpoint != null)
        await navigate({
          to: '/models/$slug',
          params: { slug: done.checkpoint.model.slug },
          search: { version: String(done.checkpoint.version) },
        });
    } catch (reason) {
      setFailure(reason instanceof Error ? reason : new Error(String(reason)));
    } finally {
      setSending(false);
    }
  };

  const problems = Object.fromEntries(
    refusals.flatMap(({ field, message }) =>
      field?.startsWith('input.') === true ? [[field.slice('input.'.length), message]] : [],
    ),
  );
  const show = (field: InputField) => (
    <Field
      key={field.name}
      field={field}
      within=""
      types={types}
      texts={texts}
      change={(path, text) => setTexts((before) => ({ ...before, [path]: text }))}
      faults={{ ...problems, ...faults }}
    />
  );
  const sorted = [...fields].sort((a, b) => rank(a) - rank(b));
  const more = sorted.filter((field) => !launch.first.includes(field.name));
  return (
    <form className="columns" onSubmit={(event) => void submit(event)}>
      <div className="sheet">
        <h2>
          {launch.title} <span className="soft small">{launch.meaning}</span>
        </h2>
        {sorted.filter((field) => launch.first.includes(field.name)).map(show)}
        {more.length > 0 && (
          <details>
            <summary>More: {more.map((field) => labelOf(field.name)).join(' · ')}</summary>
            <div className="stack" style={{ paddingTop: '0.75rem' }}>
              {more.map(show)}
            </div>
          </details>
        )}
        <Refusals errors={refusals} />
        {failure !== undefined && <Failure error={failure} />}
        <button type="submit" className="primary" disabled={isSending || Object.keys(faults).length > 0}>
          {launch.title}
        </button>
      </div>
      <div className="sheet">
        <h2>Request</h2>
        <Snippet label="The GraphQL request of the form" text={document} />
        <p className="soft small">
          Empty fields use the server's default. To send a request by hand, use{' '}
          <a href="/explorer">the GraphQL explorer</a>.
        </p>
      </div>
    </form>
  );
}

function presetTexts(name: LaunchName, preset: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const field of ['datasetId', 'checkpointId', 'datasetVersionId', 'publishedCheckpoint']) {
    const value = preset[field];
    if (value !== undefined) texts[field] = value;
  }
  if (name === 'launchPretraining' && preset['datasetVersionId'] !== undefined)
    texts['datasets'] = JSON.stringify([{ datasetVersionId: preset['datasetVersionId'] }]);
  return texts;
}
