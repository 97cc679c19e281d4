// Who this browser is in rooms without a server.

let known = null;

/**
 * @returns {Promise<{id: string, label: string}>} id: secret, told to hosts only; label: its public
 *   name. The same in all rooms, where this browser keeps anything
 */
export function ownClient() {
  known ??= found();
  return known;
}

async function found() {
  const [{ clientLabel, newClientId }, { ownClientId }] = await Promise.all([
    import('work/clients.js'), import('work/keeper.js'),
  ]);
  const id = await ownClientId().catch(() => newClientId());
  return { id, label: await clientLabel(id) };
}
