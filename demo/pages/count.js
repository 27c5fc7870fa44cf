// Asks for the page again and again and shows it in place of the last one; counts what went wrong.
const byId = (id) => document.getElementById(id);
let pages = 1, errors = 0, longest = 0, asking = false;

async function ask() {
    if (!byId('running').checked || asking) return;
    asking = true;
    const start = performance.now(), before = Number(byId('count').textContent) || 0;
    try {
        const answer = await fetch('/');
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        document.querySelector('main').replaceWith(page.querySelector('main'));
        pages += 1;
        if (!(Number(byId('count').textContent) > before)) errors += 1;
    } catch {
        errors += 1;
    }
    longest = Math.max(longest, Math.round(performance.now() - start));
    Object.entries({ pages, errors, longest }).forEach(([id, value]) => { byId(id).textContent = value; });
    asking = false;
}

addEventListener('submit', async (event) => {
    event.preventDefault();
    const order = new FormData(event.target, event.submitter);
    await fetch('/', { method: 'POST', body: order, redirect: 'manual' });
});
setInterval(ask, 250);
