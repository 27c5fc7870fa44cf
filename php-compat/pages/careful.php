<?php
// As click.php, but it takes a while, as pages do, and a session that could not be written is an
// error page, too. (php-memcached also complains of each server that it tried in vain.)
require 'start.php';
usleep(40_000);
$_SESSION['clicks'] = ($_SESSION['clicks'] ?? 0) + 1;
error_clear_last();
@session_write_close();
if (str_contains(error_get_last()['message'] ?? '', 'Failed to write session data')) {
    http_response_code(503);
    exit('the session was not written');
}
echo $_SESSION['user'] ?? 'nobody', ' ', $_SESSION['clicks'];
