// The room as this page knows it: jobs by id, head, peers, and the revision of all that.
// Takes messages, says what changed; knows nothing of the DOM or of sockets.

export class Room {
  #jobs = new Map();
  revision = 0;
  head = null;
  peers = [];
  peer = null; // the id of this very tab
  older = null; // cursor of the pictures made before all of these

  // Oldest first, as the server sends them.
  get jobs() {
    return [...this.#jobs.values()].sort((a, b) =>
      a.created_at === b.created_at ? (a.id < b.id ? -1 : 1) : a.created_at < b.created_at ? -1 : 1,
    );
  }

  get waiting() {
    return this.jobs.filter((job) => job.state === 'queued' || job.state === 'running');
  }

  // True when the page is right after this message; false when something before it was lost.
  apply(message) {
    switch (message.type) {
      case 'room.state':
        this.#jobs = new Map(message.jobs.map((job) => [job.id, job]));
        this.peers = message.peers;
        this.peer = message.peer;
        this.#head(message);
        return true;
      case 'room.changed':
        if (message.since !== this.revision) return false;
        for (const job of message.jobs) this.#jobs.set(job.id, job);
        for (const id of message.gone) this.#jobs.delete(id);
        this.#head(message);
        return true;
      case 'room.peers':
        this.peers = message.peers;
        return true;
      case 'peer.beat':
        return message.revision === this.revision;
      default:
        return true;
    }
  }

  #head({ revision, room, older }) {
    this.revision = revision;
    this.head = room;
    this.older = older;
  }

  // Pictures that are there, as "job/number", with when they were asked for.
  get pictures() {
    return new Map(
      this.jobs.flatMap((job) =>
        job.images
          .filter((image) => image.url)
          .map((image) => [`${job.id}/${image.index}`, job.created_at]),
      ),
    );
  }
}
