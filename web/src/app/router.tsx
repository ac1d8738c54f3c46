/**
 * Routes of the pages. The URL contains all settings of a page. The lists, where users begin, are bundled with the
 * layout, so that they request their rows at once; the other pages are loaded when a user opens or hovers over their
 * link.
 */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from '@tanstack/react-router';
import { DatasetsPage } from '../pages/datasets/list.tsx';
import { LeaderboardPage } from '../pages/leaderboard/page.tsx';
import { ModelsPage } from '../pages/models/list.tsx';
import { RunsPage } from '../pages/runs/list.tsx';
import { AUDIT_OUTCOMES, COLOURINGS, DATASET_ORDERS, LAUNCHES, PROTOCOLS } from './choices.ts';
import { Layout, NotFound, RouteFailure } from './layout.tsx';
import { listOf, oneOf, optional, parseSearch, stringifySearch, textOf, type Search } from './search.ts';

const rootRoute = createRootRoute({ component: Layout, notFoundComponent: NotFound });

const homeRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/',
  beforeLoad: () => {
    throw redirect({ to: '/datasets' });
  },
});

const datasetsRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/datasets',
  validateSearch: (search: Search) =>
    optional({
      q: textOf(search['q']),
      organ: listOf(search['organ']),
      stain: listOf(search['stain']),
      kind: listOf(search['kind']),
      task: listOf(search['task']),
      licence: listOf(search['licence']),
      provenance: listOf(search['provenance']),
      magnification: textOf(search['magnification']),
      micronsPerPixel: textOf(search['micronsPerPixel']),
      images: oneOf(['yes'], search['images']),
      order: oneOf(DATASET_ORDERS, search['order']),
      direction: oneOf(['ASC', 'DESC'], search['direction']),
      view: oneOf(['table', 'cards'], search['view']),
    }),
  component: DatasetsPage,
});

const datasetRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/datasets/$slug',
  validateSearch: (search: Search) => optional({ version: textOf(search['version']) }),
  component: lazyRouteComponent(() => import('../pages/datasets/detail.tsx'), 'DatasetPage'),
});

const runsRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/runs',
  validateSearch: (search: Search) => optional({ kind: listOf(search['kind']), status: listOf(search['status']) }),
  component: RunsPage,
});

const slideRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/slides/$versionId/$position',
  validateSearch: (search: Search) =>
    optional({
      colour: oneOf(COLOURINGS, search['colour']),
      evaluation: textOf(search['evaluation']),
      label: textOf(search['label']),
      embeddings: textOf(search['embeddings']),
      patch: textOf(search['patch']),
    }),
  component: lazyRouteComponent(() => import('../pages/slides/page.tsx'), 'SlidePage'),
});

const runRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/runs/$id',
  validateSearch: (search: Search) => optional({ beside: textOf(search['beside']) }),
  component: lazyRouteComponent(() => import('../pages/runs/detail.tsx'), 'RunPage'),
});

const modelsRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/models',
  validateSearch: (search: Search) => optional({ q: textOf(search['q']) }),
  component: ModelsPage,
});

const modelRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/models/$slug',
  validateSearch: (search: Search) => optional({ version: textOf(search['version']) }),
  component: lazyRouteComponent(() => import('../pages/models/detail.tsx'), 'ModelPage'),
});

const leaderboardRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/leaderboard',
  validateSearch: (search: Search) =>
    optional({ version: textOf(search['version']), protocol: oneOf(PROTOCOLS, search['protocol']) }),
  component: LeaderboardPage,
});

const evaluationRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/evaluations/$id',
  component: lazyRouteComponent(() => import('../pages/leaderboard/evaluation.tsx'), 'EvaluationPage'),
});

const newRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/new',
  validateSearch: (search: Search) =>
    optional({
      what: oneOf(LAUNCHES, search['what']),
      datasetId: textOf(search['datasetId']),
      datasetVersionId: textOf(search['datasetVersionId']),
      checkpointId: textOf(search['checkpointId']),
      publishedCheckpoint: textOf(search['publishedCheckpoint']),
    }),
  component: lazyRouteComponent(() => import('../pages/launch/page.tsx'), 'NewRunPage'),
});

const explorerRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/explorer',
  component: lazyRouteComponent(() => import('../pages/explorer.tsx'), 'ExplorerPage'),
});

const keysRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/keys',
  component: lazyRouteComponent(() => import('../pages/keys/page.tsx'), 'KeysPage'),
});

const workersRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/workers',
  component: lazyRouteComponent(() => import('../pages/workers/page.tsx'), 'WorkersPage'),
});

const auditRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/audit',
  validateSearch: (search: Search) =>
    optional({ outcome: oneOf(AUDIT_OUTCOMES, search['outcome']), person: textOf(search['person']) }),
  component: lazyRouteComponent(() => import('../pages/audit/page.tsx'), 'AuditPage'),
});

const signInRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: '/sign-in',
  validateSearch: (search: Search) => optional({ from: textOf(search['from']) }),
  component: lazyRouteComponent(() => import('../pages/sign-in.tsx'), 'SignInPage'),
});

export const router = createRouter({
  routeTree: rootRoute.addChildren([
    homeRoute,
    datasetsRoute,
    datasetRoute,
    runsRoute,
    slideRoute,
    runRoute,
    modelsRoute,
    modelRoute,
    leaderboardRoute,
    evaluationRoute,
    newRoute,
    explorerRoute,
    workersRoute,
    keysRoute,
    auditRoute,
    signInRoute,
  ]),
  parseSearch,
  stringifySearch,
  defaultPreload: 'intent',
  defaultErrorComponent: RouteFailure,
  defaultNotFoundComponent: NotFound,
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
