<?php
// The request's body goes into the session as it is; says what PHP thinks of the write.
require 'start.php';
$_SESSION['blob'] = file_get_contents('php://input');
error_clear_last();
session_write_close();
$complaint = error_get_last();
echo $complaint ? $complaint['message'] : 'stored';
