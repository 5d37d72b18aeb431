"""What the analyzer's page brings into the browser beside its widgets: a guard against too much input, and some looks.

A browser sends what is pasted or uploaded in one message, and Jupyter closes the connection on one above 10 MiB: the
page would stand still without a word. So the browser itself refuses, says so, and keeps what was there. ipywidgets
makes its file input only when it is wanted and never puts it into the page; it is met at its click.
"""

from labs_lib.static_memory.app_run import LIMIT

GUARD = """<style>
.labs-analyzer td, .labs-analyzer th { padding: 2px 10px; text-align: left; }
.labs-export { text-decoration: underline; color: #1565c0; }
</style>
<script>
(() => {
    if (window.labsGuard) return;
    window.labsGuard = true;
    const limit = LIMIT;
    let upload = null;
    const refuse = (event, what, size) => {
        event.preventDefault();
        event.stopImmediatePropagation();
        const sentence = document.createElement('p');
        sentence.className = 'labs-error';
        sentence.setAttribute('role', 'alert');
        sentence.style.color = '#b00';
        sentence.textContent = `${what} ${size.toLocaleString('en')} bytes; this page takes `
            + `${limit.toLocaleString('en')}. Nothing was changed. Give a part of it: short inputs are repeated.`;
        document.querySelectorAll('.labs-message .widget-html-content').forEach(
            place => place.replaceChildren(sentence.cloneNode(true)));
    };
    const insert = (event, data) => {
        if (!data || !event.target.closest || !event.target.closest('.labs-numbers')) return;
        const text = event.target.value + data.getData('text');
        const size = text.length > limit ? text.length : new Blob([JSON.stringify(text)]).size;  // as it is sent
        if (size > limit) refuse(event, 'The box would hold', size);
    };
    document.addEventListener('paste', event => insert(event, event.clipboardData), true);
    document.addEventListener('drop', event => insert(event, event.dataTransfer), true);
    document.addEventListener('click', event => {
        upload = event.target.closest && event.target.closest('.labs-upload');
    }, true);
    const click = HTMLInputElement.prototype.click;
    HTMLInputElement.prototype.click = function () {
        if (upload && this.type === 'file' && !this.labsGuard) {
            this.labsGuard = true;
            this.addEventListener('change', event => {
                const large = [...this.files].find(file => file.size > limit);
                if (large) refuse(event, `${large.name} holds`, large.size);
            }, true);
        }
        return click.call(this);
    };
})();
</script>""".replace("LIMIT", str(LIMIT))
