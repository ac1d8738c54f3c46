/** GraphQL queries of the pages of datasets. */
import { graphql, type ResultOf } from '../../api/graphql.ts';

export const DATASETS = graphql(`
  query Datasets($filter: DatasetFilter, $orderBy: DatasetOrder, $first: Int, $after: String) {
    datasets(filter: $filter, orderBy: $orderBy, first: $first, after: $after) {
      totalCount
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
        id
        slug
        name
        synthetic
        provenance
        imageKind
        imageCount
        slideCount
        publishedYear
        licence
        tasks
        organs {
          code
          name
        }
        stains {
          code
          name
        }
        resolutions {
          magnification
          totalMagnification
          micronsPerPixel
        }
        latestVersion {
          id
          version
          imageCount
          thumbnails {
            position
            url
            label
          }
        }
      }
    }
  }
`);
export type DatasetRow = ResultOf<typeof DATASETS>['datasets']['nodes'][number];

export const DATASET_FACETS = graphql(`
  query DatasetFacets($filter: DatasetFilter) {
    datasetFacets(filter: $filter) {
      datasetCount
      organs {
        value
        name
        count
      }
      stains {
        value
        name
        count
      }
      imageKinds {
        value
        name
        count
      }
      magnifications {
        value
        name
        count
      }
      micronsPerPixelBounds {
        value
        name
        count
      }
      tasks {
        value
        name
        count
      }
      licences {
        value
        name
        count
      }
      provenances {
        value
        name
        count
      }
    }
  }
`);
export type DatasetFacets = ResultOf<typeof DATASET_FACETS>['datasetFacets'];

export const DATASET = graphql(`
  query Dataset($slug: String!) {
    dataset(slug: $slug) {
      id
      slug
      name
      description
      synthetic
      provenance
      provenanceNote
      imageKind
      imageCount
      slideCount
      imageSizeNote
      classNames
      tasks
      ihcMarkers
      licence
      publishedYear
      homepageUrl
      notes
      paperRoles
      parentCollections
      sourceUrls
      createdAt
      editedAt
      cardUrl
      organs {
        code
        name
      }
      stains {
        code
        name
      }
      resolutions {
        magnification
        totalMagnification
        micronsPerPixel
      }
      citation {
        authors
        title
        venue
        doi
        arxiv
      }
      subcollections {
        slug
        organ
        slideCount
        magnifications
        source
      }
      factSources {
        field
        evidence
        sourceUrls
      }
      versions(first: 50) {
        totalCount
        nodes {
          id
          version
          status
          digest
          manifestSha256
          patchSizePx
          imageCount
          byteSize
          groupCount
          hasSplit
          createdAt
          sealedAt
          labelCounts {
            label
            count
          }
          ungroupedImageCount
          issueListUrl
          issues {
            kind
            count
            kept
            meaning
            examples
          }
          thumbnails {
            position
            label
            url
          }
        }
      }
    }
  }
`);
export type DatasetDetail = NonNullable<ResultOf<typeof DATASET>['dataset']>;
export type DatasetVersionDetail = DatasetDetail['versions']['nodes'][number];

export const ISSUE_ENTRIES = graphql(`
  query IssueEntries($id: ID!, $kind: String, $after: String) {
    node(id: $id) {
      ... on DatasetVersion {
        issueEntries(first: 100, after: $after, kind: $kind) {
          pageInfo {
            hasNextPage
            endCursor
          }
          nodes {
            path
            reason
            relatedPath
          }
        }
      }
    }
  }
`);
export type IssueEntries = ResultOf<typeof ISSUE_ENTRIES>;
export type ListedIssues = Extract<NonNullable<IssueEntries['node']>, { issueEntries: unknown }>['issueEntries'];

export const TRAINED_ON = graphql(`
  query TrainedOn($datasetId: ID!) {
    checkpoints(filter: { trainedOnDatasetId: $datasetId }, first: 100) {
      totalCount
      nodes {
        id
        version
        encoder
        step
        createdAt
        model {
          slug
          name
        }
        trainedOn {
          id
          version
          dataset {
            slug
          }
        }
        sourceRun {
          id
        }
      }
    }
  }
`);
