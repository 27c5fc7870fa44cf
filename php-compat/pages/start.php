<?php
// Every page includes this first. A session that does not start is an error page, never a page
// that carries on without one.
if (!session_start()) {
    http_response_code(503);
    exit('the session did not start');
}
