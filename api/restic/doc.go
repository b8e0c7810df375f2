// Package restic serves the REST protocol of restic's clients, in both versions of its listings, as rest-server does.
//
// A request is translated into calls of one repo.Access, and its outcome into a status. Deliberate differences from the reference server, as
// the protocol description recommends (restic-rest 1.4, 6):
//
//   - A listing of a repository that is there is never 404, which clients take for an empty one, and its prune then deletes everything. What
//     is not certain is a 5xx. So snapshots, indexes and keys whose file was lost stay in listings.
//   - Storing the same bytes again is 200, also in append-only mode and for config.
//   - Each upload is checked against its name, and nothing of it is visible before it is durable. Config is stored whole or not at all.
//   - A quota or a disk that is full is 507 at whatever moment, a damaged object 403: clients do not repeat either for a quarter of an hour.
//     Locks, and indexes within a reserve, can be stored all the same, so that a client can prune.
//   - Of two clients that initialize a repository at once, the second waits for the first, and config is deleted under a lock only: else the second
//     would delete the config of the first.
//   - A repository begins with its creation, and not with any upload: a mistyped path is 404.
//   - Somebody else's repository is 403, not 401.
//   - "//" in a path counts as one slash, instead of being redirected.
//
// Start reading at Dialect.Serve.
package restic
