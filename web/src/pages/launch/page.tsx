/** New run: a form made from the schema's own rules, and the GraphQL that it sends. */
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState, type SyntheticEvent } from 'react';
import { LAUNCHES } from '../../app/choices.ts';
import { graphql } from '../../api/graphql.ts';
import { send } from '../../api/client.ts';
import { useAsk, useForgetAnswers, useKey } from '../../api/hooks.ts';
import { counted } from '../../ui/format.ts';
import { Failure, Loaded, Refusals, Snippet, useTitle, type UserErrorFacts } from '../../ui/parts.tsx';
import { inputTypes, literalOf, shapeOf, valueOf, type InputField, type InputType } from './schema.ts';

const newRoute = getRouteApi('/new');

type LaunchName = (typeof LAUNCHES)[number];

interface Launch {
  readonly title: string;
  readonly input: string;
  readonly meaning: string;
  /** What comes back under `what`. */
  readonly gives: 'run' | 'dataset' | 'checkpoint';
  readonly fields: string;
  /** Asked first; the rest stands below under "More". */
  readonly first: readonly string[];
}

const RUN_FIELDS = 'run { id }';

const WAYS: Readonly<Record<LaunchName, Launch>> = {
  launchPretraining: { title: 'Pretrain', input: 'LaunchPretrainingInput', meaning: 'An encoder learns from images without labels (SimCLR).', gives: 'run', fields: RUN_FIELDS, first: ['modelSlug', 'datasets', 'encoder', 'imageSizePx', 'batchSize', 'epochs', 'steps'] },
  launchEvaluation: { title: 'Evaluate', input: 'LaunchEvaluationInput', meaning: 'An encoder is measured on labelled images, with intervals and baselines.', gives: 'run', fields: RUN_FIELDS, first: ['checkpointId', 'datasetVersionId', 'protocol', 'folds'] },
  importDatasetVersion: { title: 'Import images', input: 'ImportDatasetVersionInput', meaning: 'A folder of the server becomes a sealed version of a dataset.', gives: 'run', fields: RUN_FIELDS, first: ['datasetId', 'path', 'layout', 'patchSizePx', 'labelsCsvPath'] },
  createDataset: { title: 'New dataset', input: 'CreateDatasetInput', meaning: 'A dataset of your own; its images come by an import.', gives: 'dataset', fields: 'dataset { slug }', first: ['name', 'imageKind', 'organs', 'stains', 'tasks', 'synthetic'] },
  importCheckpoint: { title: 'Bring in weights', input: 'ImportCheckpointInput', meaning: 'Weights made elsewhere, mapped strictly, never run.', gives: 'checkpoint', fields: 'checkpoint { version model { slug } }', first: ['publishedCheckpoint', 'modelSlug', 'path', 'url', 'inputContract'] },
};

const CHOICES = graphql(`
  query Choices {
    datasets(first: 200) { nodes { id slug name latestVersion { id version imageCount labelNames } } }
    checkpoints(first: 200, filter: { published: false }) { nodes { id version encoder sha256 model { slug } } }
  }
`);
const IMPORT_ROOTS = graphql(`
  query ImportRoots { importRoots }
`);

export function NewPage() {
  useTitle('New run');
  const search = newRoute.useSearch();
  const what = search.what ?? 'launchPretraining';
  const types = useQuery({ queryKey: ['input types'], queryFn: inputTypes, staleTime: Infinity });
  const key = useKey();
  return (
    <>
      <div className="head">
        <h1>New run</h1>
        {key === null && <div className="notice warn"><span>Whatever changes something needs a key: <Link to="/sign-in" search={{ from: location.pathname + location.search }}>sign in</Link> first.</span></div>}
      </div>
      <nav className="tabs" aria-label="What to do">
        {LAUNCHES.map((name) => <Link key={name} to="/new" search={{ what: name }} className={name === what ? 'active' : ''} aria-current={name === what ? 'page' : undefined}>{WAYS[name].title}</Link>)}
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

function Form({ name, types, preset }: { readonly name: LaunchName; readonly types: ReadonlyMap<string, InputType>; readonly preset: Readonly<Record<string, string | undefined>> }) {
  const way = WAYS[name];
  const fields = (types.get(way.input)?.inputFields ?? []).filter((field) => field.name !== 'idempotencyKey');
  const rank = (field: InputField): number => (way.first.includes(field.name) ? way.first.indexOf(field.name) : way.first.length);
  const [texts, setTexts] = useState<Readonly<Record<string, string>>>(() => presetTexts(name, preset));
  const [refusals, setRefusals] = useState<readonly UserErrorFacts[]>([]);
  const [failure, setFailure] = useState<Error>();
  const [isSending, setSending] = useState(false);
  const navigate = newRoute.useNavigate();
  const forgetAnswers = useForgetAnswers();

  const values: Record<string, unknown> = {};
  const faults: Record<string, string> = {};
  for (const field of fields) {
    try {
      const value = valueOf(texts[field.name] ?? '', shapeOf(field.type));
      if (value !== undefined) values[field.name] = value;
    } catch (error) {
      faults[field.name] = error instanceof SyntaxError ? 'must be JSON' : error instanceof Error ? error.message : String(error);
    }
  }
  const isEnum = (field: InputField): boolean => (types.get(shapeOf(field.type).typeName)?.enumValues ?? null) !== null;
  const lines = fields.flatMap((field) => (field.name in values ? [`    ${field.name}: ${literalOf(values[field.name], isEnum(field))}`] : []));
  const document = `mutation {\n  ${name}(input: {\n${lines.join('\n')}\n  }) {\n    ${way.fields}\n    userErrors { code field message hint }\n  }\n}`;

  const submit = async (event: SyntheticEvent): Promise<void> => {
    event.preventDefault();
    setSending(true);
    setFailure(undefined);
    try {
      const query = `mutation ($input: ${way.input}!) { ${name}(input: $input) { ${way.fields} userErrors { code field message hint } } }`;
      const answer = await send<Readonly<Record<string, Done>>>(query, { input: values });
      const done = answer[name];
      setRefusals(done?.userErrors ?? []);
      forgetAnswers();
      if (done?.run != null) await navigate({ to: '/runs/$id', params: { id: done.run.id } });
      else if (done?.dataset != null) await navigate({ to: '/datasets/$slug', params: { slug: done.dataset.slug } });
      else if (done?.checkpoint != null) await navigate({ to: '/models/$slug', params: { slug: done.checkpoint.model.slug }, search: { version: String(done.checkpoint.version) } });
    } catch (reason) {
      setFailure(reason instanceof Error ? reason : new Error(String(reason)));
    } finally {
      setSending(false);
    }
  };

  const show = (field: InputField) => (
    <Field
      key={field.name}
      field={field}
      type={types.get(shapeOf(field.type).typeName)}
      text={texts[field.name] ?? ''}
      change={(text) => setTexts((before) => ({ ...before, [field.name]: text }))}
      fault={faults[field.name] ?? refusals.find((refusal) => refusal.field === `input.${field.name}` || refusal.field?.startsWith(`input.${field.name}.`) === true)?.message}
    />
  );
  const sorted = [...fields].sort((a, b) => rank(a) - rank(b));
  const more = sorted.filter((field) => !way.first.includes(field.name));
  return (
    <form className="columns" onSubmit={(event) => void submit(event)}>
      <div className="sheet">
        <h2>{way.title} <span className="soft small">{way.meaning}</span></h2>
        {sorted.filter((field) => way.first.includes(field.name)).map(show)}
        {more.length > 0 && (
          <details>
            <summary>More: {more.map((field) => field.name).join(', ')}</summary>
            <div className="stack" style={{ paddingTop: '0.75rem' }}>{more.map(show)}</div>
          </details>
        )}
        <Refusals errors={refusals} />
        {failure !== undefined && <Failure error={failure} />}
        <button type="submit" className="primary" disabled={isSending || Object.keys(faults).length > 0}>{way.title}</button>
      </div>
      <div className="sheet">
        <h2>What it sends</h2>
        <Snippet label="The GraphQL that the form sends" text={document} />
        <p className="soft small">What is left empty takes the server's default. The same by hand: <a href="/explorer">the GraphQL explorer</a>.</p>
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
  if (name === 'launchPretraining' && preset['datasetVersionId'] !== undefined) texts['datasets'] = JSON.stringify([{ datasetVersionId: preset['datasetVersionId'] }]);
  return texts;
}

interface FieldProps {
  readonly field: InputField;
  readonly type: InputType | undefined;
  readonly text: string;
  readonly change: (text: string) => void;
  readonly fault: string | undefined;
}

function Field({ field, type, text, change, fault }: FieldProps) {
  const shape = shapeOf(field.type);
  const id = `field-${field.name}`;
  const noteId = `${id}-note`;
  const isNeeded = shape.isRequired && field.defaultValue === null;
  const note = [field.description, field.defaultValue === null ? null : `Default ${field.defaultValue}.`, shape.isList && shape.typeName === 'String' ? 'Several, with commas between.' : null].filter((part) => part !== null).join(' ');
  const attributes = { id, value: text, required: isNeeded, 'aria-describedby': noteId, 'aria-invalid': fault !== undefined };
  return (
    <div className="field">
      <label htmlFor={id}>{field.name}{isNeeded ? ' *' : ''}</label>
      {hasPicker(field.name) ? (
        <Picker name={field.name} attributes={attributes} change={change} />
      ) : type?.enumValues != null && !shape.isList ? (
        <select {...attributes} onChange={(event) => change(event.target.value)}>
          <option value="">{field.defaultValue === null ? '' : `default: ${field.defaultValue}`}</option>
          {type.enumValues.map((each) => <option key={each.name} value={each.name}>{each.name}</option>)}
        </select>
      ) : shape.typeName === 'Boolean' ? (
        <select {...attributes} onChange={(event) => change(event.target.value)}>
          <option value="">{field.defaultValue === null ? '' : `default: ${field.defaultValue}`}</option>
          <option value="true">true</option>
          <option value="false">false</option>
        </select>
      ) : shape.typeName === 'JSON' || shape.typeName.endsWith('Input') || (shape.isList && shape.typeName !== 'String') ? (
        <textarea {...attributes} rows={3} placeholder={type?.inputFields == null ? (type?.enumValues == null ? '{ }' : `["${type.enumValues[0]?.name}"]`) : `{ ${type.inputFields.map((each) => `"${each.name}"`).join(', ')} }`} onChange={(event) => change(event.target.value)} />
      ) : (
        <input {...attributes} inputMode={shape.typeName === 'Int' ? 'numeric' : shape.typeName === 'Float' ? 'decimal' : 'text'} placeholder={field.defaultValue ?? ''} onChange={(event) => change(event.target.value)} />
      )}
      <p id={noteId} className="soft small">{note}{field.name === 'path' && <ImportRoots />}{fault !== undefined && <strong className="fault"> {fault}</strong>}</p>
    </div>
  );
}

function ImportRoots() {
  const key = useKey();
  const answer = useAsk(IMPORT_ROOTS, {}, { enabled: key !== null });
  return answer.data === undefined ? null : <> Below: {answer.data.importRoots.map((root) => <code key={root}>{root} </code>)}</>;
}

function hasPicker(name: string): boolean {
  return ['datasetId', 'datasetVersionId', 'checkpointId', 'initialCheckpointId', 'datasets'].includes(name);
}

interface PickerProps {
  readonly name: string;
  readonly attributes: { readonly id: string; readonly value: string; readonly required: boolean };
  readonly change: (text: string) => void;
}

/** Ids are chosen by name. */
function Picker({ name, attributes, change }: PickerProps) {
  const answer = useAsk(CHOICES, {});
  const datasets = answer.data?.datasets.nodes ?? [];
  const versions = datasets.flatMap((dataset) => (dataset.latestVersion === null ? [] : [{ ...dataset.latestVersion, label: `${dataset.name} v${dataset.latestVersion.version}, ${counted(dataset.latestVersion.imageCount, 'image')}${dataset.latestVersion.labelNames.length > 1 ? '' : ', no labels'}` }]));
  if (name === 'datasets') return <VersionsPicker id={attributes.id} text={attributes.value} versions={versions} change={change} />;
  const options =
    name === 'datasetId'
      ? datasets.map((dataset) => ({ id: dataset.id, label: dataset.name }))
      : name === 'datasetVersionId'
        ? versions
        : (answer.data?.checkpoints.nodes ?? []).filter((checkpoint) => checkpoint.sha256 !== null).map((checkpoint) => ({ id: checkpoint.id, label: `${checkpoint.model.slug} v${checkpoint.version} (${checkpoint.encoder})` }));
  return (
    <select {...attributes} onChange={(event) => change(event.target.value)}>
      <option value="">choose …</option>
      {options.map((option) => <option key={option.id} value={option.id}>{option.label}</option>)}
    </select>
  );
}

function VersionsPicker({ id, text, versions, change }: { readonly id: string; readonly text: string; readonly versions: readonly { readonly id: string; readonly label: string }[]; readonly change: (text: string) => void }) {
  const chosen = versions.filter((version) => text.includes(version.id)).map((version) => version.id);
  if (versions.length === 0) return <p className="soft" id={id}>No images are here yet: <Link to="/new" search={{ what: 'importDatasetVersion' }}>import some</Link>.</p>;
  const toggle = (versionId: string, isOn: boolean): void => {
    const next = isOn ? [...chosen, versionId] : chosen.filter((each) => each !== versionId);
    change(next.length === 0 ? '' : JSON.stringify(next.map((datasetVersionId) => ({ datasetVersionId }))));
  };
  return (
    <div className="facet" id={id} role="group" aria-label="datasets">
      {versions.map((version) => (
        <label key={version.id}>
          <input type="checkbox" checked={chosen.includes(version.id)} onChange={(event) => toggle(version.id, event.target.checked)} />
          <span>{version.label}</span>
        </label>
      ))}
    </div>
  );
}
