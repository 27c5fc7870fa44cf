<?php
// A new id for the same session; with ?forget=1 the old id stops being good.
require 'start.php';
session_regenerate_id(isset($_GET['forget']));
echo session_id();
